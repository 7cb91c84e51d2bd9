"""Tokens and helpers that tests of fusions share."""

from __future__ import annotations

import torch

from fusion import Tokens

NAN = float("nan")


def patient(*values: float | None, dim: int = 4) -> dict[str, Tokens]:
    """One patient with one token a modality, its value repeated; None is absent."""
    shape = (1, 1, dim)
    return {
        name: Tokens(torch.full(shape, value or 0.0), torch.tensor([[value is not None]]))
        for name, value in zip("abc", values, strict=False)
    }
