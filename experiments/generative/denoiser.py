"""The network: what noisy cells were before the noise, given cells that are clean and how much noise there is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_FREQUENCIES = 16
SIGMA_MIN, SIGMA_MAX = 0.02, 20.0  # cells have a spread of about one: at 20 nothing of them is left


class Denoiser(nn.Module):
    """Estimates clean cells by residual layers on noisy ones, beside which it reads which cells are given clean.

    Reference:
        Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022 (the preconditioning, for
        data of spread one). Kotelnikov et al., TabDDPM, 2023 (a small multilayer perceptron on normal scores). Chen et
        al., Analog Bits, 2023 (flags as -1 and 1 beside numbers; TabDDPM has multinomial diffusion for them). Given
        cells, which the loss leaves out, make one network serve synthesis, imputation and looking for what does not
        fit; they are not in these works.
    """

    def __init__(self, cells: int, width: int = 256, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * cells, width)
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout),
                          nn.Linear(width, width))
            for _ in range(layers)
        )  # fmt: skip
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, cells))

    def forward(self, noisy: Tensor, given: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean cells; given cells come back as they are.

        Shape:
            noisy (B, C), clean where given; given (B, C) bool; sigma (B, 1) -> (B, C).
        """
        kept = 1 / (sigma**2 + 1)
        scaled = torch.where(given, noisy, noisy * kept.sqrt())
        hidden = self.enter(torch.cat([scaled, given.to(noisy.dtype)], 1)) + self.time(_waves(sigma))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        found = kept * noisy + sigma * kept.sqrt() * self.leave(hidden)
        return torch.where(given, noisy, found)


def _waves(sigma: Tensor) -> Tensor:
    """Return sines and cosines of the logarithm of the noise. Shape: (B, 1) -> (B, 2 * frequencies)."""
    speeds = torch.exp(torch.linspace(0, math.log(20), _FREQUENCIES, device=sigma.device))
    angles = sigma.log() / 4 * speeds
    return torch.cat([angles.sin(), angles.cos()], 1)


def noises(steps: int) -> Tensor:
    """Return the amounts of noise that sampling goes through, the last is none. Shape: (steps + 1,)."""
    ramp = torch.linspace(0, 1, steps)
    found = (SIGMA_MAX ** (1 / 7) + ramp * (SIGMA_MIN ** (1 / 7) - SIGMA_MAX ** (1 / 7))) ** 7
    return torch.cat([found, torch.zeros(1)])
