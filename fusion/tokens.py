"""Tokens: the one thing encoders return and fusions accept."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """One modality of a batch of patients.

    A missing modality is a row whose mask is all False; nothing else represents it.

    Shape:
        values: (B, T, D) float. mask: (B, T) bool, True = real.
    """

    values: Tensor
    mask: Tensor


def present(mask: Tensor) -> Tensor:
    """Tell which patients have anything at all behind a mask.

    Shape:
        mask (B, ...) bool -> (B,) bool.
    """
    return mask.flatten(1).any(1)


def clean(tokens: Tokens) -> Tokens:
    """Zero what stands behind the mask, so that not even NaN can pass it."""
    return Tokens(tokens.values.masked_fill(~tokens.mask.unsqueeze(-1), 0.0), tokens.mask)
