"""From padded images to tokens: encoders see real images only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from encoders.images.pixels import ImageInputs
from fusion.tokens import Tokens


def encode_real(inputs: ImageInputs, network: Callable[[Tensor], Tensor]) -> Tokens:
    """Run a network on the real images and lay its tokens out by patient.

    Shape:
        network: (N, C, H, W) uint8 -> (N, S, F); ImageInputs (B, K) -> Tokens (B, K * S, F).
    """
    batch, count = inputs.mask.shape
    if not inputs.mask.any():
        probe = network(inputs.pixels[:1, 0])  # one black image tells the number of tokens
        values = probe.new_zeros(batch, count * probe.shape[1], probe.shape[2])
        return Tokens(values, inputs.mask.repeat_interleave(probe.shape[1], dim=1))
    found = network(inputs.pixels[inputs.mask])
    values = found.new_zeros(batch, count, *found.shape[1:])
    places = inputs.mask.nonzero(as_tuple=True)
    values = values.index_put(places, found)
    return Tokens(values.flatten(1, 2), inputs.mask.repeat_interleave(found.shape[1], dim=1))


def scaled(pixels: Tensor, mean: Tensor | float, spread: Tensor | float) -> Tensor:
    """Turn bytes, or floats from 0 to 255, into standardised floats. Shape: (N, C, H, W) -> float."""
    return (pixels.to(torch.float32) / 255 - mean) / spread
