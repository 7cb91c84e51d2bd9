"""Continuous time: how long before the prediction something happened, as features on a logarithmic scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimeEncoding(nn.Module):
    """Sines and cosines of log(1 + days / a minute) at fixed frequencies, mixed by one linear layer.

    The logarithm gives minutes in intensive care and years of history the same resolution.

    Shape:
        days (B, T) float, >= 0, mask (B, T) bool -> (B, T, D).

    Reference:
        Kazemi et al., Time2Vec, 2019 (here with fixed frequencies of log time).
    """

    frequencies: Tensor

    def __init__(self, dim: int, waves: int = 8) -> None:
        super().__init__()
        longest = math.log1p(100 * 365.25 * 1440)
        self.register_buffer("frequencies", math.pi / longest * torch.arange(1, waves + 1), persistent=False)
        self.mix = nn.Linear(2 * waves + 1, dim)
        with torch.no_grad():  # what happened comes first; when it did starts as a small correction
            self.mix.weight.mul_(0.1)
            self.mix.bias.zero_()

    def forward(self, days: Tensor, mask: Tensor) -> Tensor:
        """Encode days before the prediction time; what stands behind the mask is not read, for 0 * NaN is NaN."""
        level = torch.log1p(days.masked_fill(~mask, 0.0).clamp(min=0) * 1440).unsqueeze(-1)
        angles = level * self.frequencies
        return self.mix(torch.cat([level / 10, angles.sin(), angles.cos()], dim=-1))
