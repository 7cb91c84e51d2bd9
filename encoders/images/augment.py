"""Pictures changed by chance while training, so that a network learns what does not depend on how they were taken."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_TURN, _SCALE, _SHIFT = math.radians(15), 0.15, 0.1  # at full strength; shifts are shares of the side
_BRIGHTNESS, _CONTRAST = 0.3, 0.3
_HIDDEN, _HOW_OFTEN = 0.3, 0.5  # side of a hidden rectangle at most, and the share of pictures that have one


class Augment(nn.Module):
    """Turns, scales and shifts each picture, changes brightness and contrast, hides a rectangle; only in training.

    No picture is mirrored: in a radiograph left and right matter, the heart lies on one side. All chance comes from
    torch's generator of the CPU, so that a seed gives the same pictures on every device.

    Shape:
        (N, C, S, S) uint8 -> (N, C, S, S) float from 0 to 255; bytes as they came in evaluation or at strength 0.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        """Change every picture in its own way."""
        if not (self.training and self.strength):
            return pixels
        chance = torch.rand(len(pixels), 10).to(pixels.device)
        moves = self.strength * (2 * chance[:, :6] - 1)  # (N, 6), each from -strength to strength
        picture = _move(pixels.float(), moves[:, :4])
        picture = _light(picture, moves[:, 4:])
        return picture * _shown(chance[:, 6:], self.strength, pixels.shape[-1])


def _move(picture: Tensor, moves: Tensor) -> Tensor:
    turn, scale, across, down = moves.unbind(1)
    angle, zoom = _TURN * turn, torch.exp(_SCALE * scale)
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = [
        torch.stack(row, dim=-1) for row in ((cosine, -sine, 2 * _SHIFT * across), (sine, cosine, 2 * _SHIFT * down))
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(picture.shape), align_corners=False)
    return functional.grid_sample(picture, grid, align_corners=False)


def _light(picture: Tensor, moves: Tensor) -> Tensor:
    brightness, contrast = (
        (1 + most * move).view(-1, 1, 1, 1)
        for most, move in zip((_BRIGHTNESS, _CONTRAST), moves.unbind(1), strict=True)
    )
    middle = picture.mean(dim=(1, 2, 3), keepdim=True)
    return ((picture - middle) * contrast + middle).mul(brightness).clamp(0, 255)


def _shown(chance: Tensor, strength: float, size: int) -> Tensor:
    """Tell which pixels stay; a rectangle of some pictures does not. Shape: (N, 4) -> (N, 1, S, S) bool."""
    hides, side = chance[:, 0] < _HOW_OFTEN * strength, _HIDDEN * strength * chance[:, 1]
    places = (torch.arange(size, device=chance.device) + 0.5) / size
    inside = [((places - middle.unsqueeze(1)).abs() < side.unsqueeze(1) / 2) for middle in chance[:, 2:].unbind(1)]
    hidden = inside[0].unsqueeze(2) & inside[1].unsqueeze(1) & hides.view(-1, 1, 1)
    return ~hidden.unsqueeze(1)
