"""Encoders of K models of one structure as one, which read the same patients; see `fusion.stacked`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from encoders.codes.bag import CodeBag
from encoders.notes.bag import NoteBag
from encoders.notes.tfidf import NoteTfidf
from fusion.stacked import OwnParameters, stack_layers
from fusion.tokens import Tokens

STACKABLE = (CodeBag, NoteBag, NoteTfidf)
"""Encoders that can be stacked: small ones, where a step costs more in calls than in arithmetic."""


class StackedBag(nn.Module):
    """K bags: one gather from K tables, numbers and times read once. Shape: Inputs (B, T) -> Tokens (K * B, S, D)."""

    def __init__(self, bags: Sequence[nn.Module], dice: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.count = len(bags)
        self.bag: Any = stack_layers(bags, dice)
        embed = stack_layers([each.get_submodule("embed") for each in bags], dice, shared=True)
        if isinstance(bags[0], CodeBag):  # its embedding has a vector of its own, which meets (K, B, T, D)
            embed = OwnParameters(embed, lambda vector, _: vector[:, None, None])
        self.bag.embed = embed

    def forward(self, inputs: Any) -> Tokens:
        """Summarise each patient's items as each model does."""
        parts = [Tokens(v.flatten(0, 1), mask.repeat(self.count, 1)) for v, mask in self.bag.embedded(inputs)]
        found: Tokens = self.bag.summarise(parts)
        return found


class StackedRows(nn.Module):
    """K encoders of linear layers, whose inputs are repeated. Shape: Inputs (B, ...) -> Tokens (K * B, T, D)."""

    def __init__(self, encoders: Sequence[nn.Module], dice: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.count, self.encoder = len(encoders), stack_layers(encoders, dice)

    def forward(self, inputs: Any) -> Tokens:
        """Encode each patient as each model does."""
        found: Tokens = self.encoder(
            type(inputs)(*(each.repeat(self.count, *[1] * (each.dim() - 1)) for each in inputs))
        )
        return found


def stack_encoders(encoders: Sequence[nn.Module], dice: Sequence[torch.Generator]) -> nn.Module:
    """Return one encoder for K encoders of one of the `STACKABLE` classes."""
    return (StackedRows if isinstance(encoders[0], NoteTfidf) else StackedBag)(encoders, dice)
