"""Features of images that can be cached: vectors with days and views as further channels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from encoders.images.pixels import ImageInputs
from fusion.tokens import Tokens, clean

_PARTS = 3  # numbers of bf16, of 8 bits each, that hold the 24 bits of a float32


class Features(NamedTuple):
    """Vectors of images with what is known of each.

    Shape:
        tokens (B, K, F), days (B, K) float, views (B, K) int64.
    """

    tokens: Tokens
    days: Tensor
    views: Tensor


def join(found: Tokens, inputs: ImageInputs) -> Tokens:
    """Append days and views to the vectors of images, so that a cache of Tokens keeps them.

    The cache rounds to bf16. A number is therefore written as three that bf16 holds and whose sum it is exactly: only
    the vectors are rounded.

    Shape:
        Tokens (B, K, F), ImageInputs (B, K) -> Tokens (B, K, F + 6).
    """
    parts = [*_split(inputs.days), *_split(inputs.views)]
    extra = torch.stack(parts, dim=-1).masked_fill(~found.mask.unsqueeze(-1), 0.0)
    return Tokens(torch.cat([found.values, extra], dim=-1), found.mask)


def split(tokens: Tokens) -> Features:
    """Take apart what `join` made. Shape: Tokens (B, K, F + 6) -> Features of (B, K, F)."""
    values, mask = clean(tokens)
    days, views = (part.float().sum(-1) for part in values[..., -2 * _PARTS :].split(_PARTS, dim=-1))
    return Features(Tokens(values[..., : -2 * _PARTS], mask), days, views.round().long())


def _split(numbers: Tensor) -> list[Tensor]:
    left, parts = numbers.float(), []
    for _ in range(_PARTS):
        parts.append(left.bfloat16().float())
        left = left - parts[-1]
    return parts
