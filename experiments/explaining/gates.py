"""Gates on what a patient has: at 1 all is as it is, at 0 nobody can tell which code, word, node or picture it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ITEMS = ("codes", "ids", "nodes")
"""Fields of inputs that hold the numbers of items; an encoder looks them up in its tables."""


def items_of(inputs: Any) -> tuple[Tensor, Tensor] | None:
    """Return the numbers of items and which are real; None where the inputs have none.

    Shape:
        -> (B, T) or, in pieces, (B, T, L) int64 and bool.
    """
    field = next((name for name in _ITEMS if hasattr(inputs, name)), None)
    if field is None:
        return None
    items = getattr(inputs, field)
    return items, inputs.mask if items.ndim == 2 else inputs.mask.unsqueeze(-1) & (items > 0)


class Gated(TorchFunctionMode):
    """While it is on, scales what tables say of items by the items' gates.

    Every look-up that is laid out like the items is scaled, whatever the encoder calls it; so is one of neighbouring
    pairs, by the product of both gates, and one of the real pieces of a text only. Times, values and order stay as
    they are. `lookups` counts what was scaled: an encoder without any cannot be attributed.

    Shape:
        gate like items: (B, T) or (B, T, L), from 0 to 1.
    """

    def __init__(self, gate: Tensor, items: Tensor, pieces: Tensor) -> None:
        super().__init__()
        self.gate, self.items, self.pieces, self.lookups = gate, items, pieces, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is functional.embedding and (gate := self._gate(args[0])) is not None:
            self.lookups += 1
            return found * gate.reshape(*gate.shape, *[1] * (found.ndim - gate.ndim))
        return found

    def _gate(self, numbers: Tensor) -> Tensor | None:
        """Return the gates of a look-up's items; None where it is laid out in another way."""
        gate, shape = self.gate, self.items.shape
        if numbers.shape[: len(shape)] == shape:
            return gate
        if len(shape) == 2 and tuple(numbers.shape) == (shape[0], shape[1] - 1):
            return gate[:, :-1] * gate[:, 1:]
        if len(shape) == 3 and numbers.ndim == 2 and len(numbers) == int(self.pieces.sum()):
            longest = numbers.shape[1]
            if torch.equal(numbers, self.items[self.pieces][:, :longest]):
                return gate[self.pieces][:, :longest]
        return None
