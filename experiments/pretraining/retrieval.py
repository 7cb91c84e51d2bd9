"""Retrieval: whether the nearest vector of another modality is the same patient's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Recall(NamedTuple):
    """How often the nearest of `patients` is the right one, both ways taken together; by chance it is 1 / patients."""

    value: float
    patients: int

    @property
    def chance(self) -> float:
        """What guessing gives."""
        return 1 / max(1, self.patients)


def recall_at_one(first: Tensor, second: Tensor) -> Recall:
    """Look for each patient's vector of one modality among all of the other. Shape: (N, D) twice.

    A tie counts as the share of the tied that is right.
    """
    if not len(first):
        return Recall(0.0, 0)
    alike = first @ second.T
    right = []
    for table in (alike, alike.T):
        top = table.max(1).values
        tied = (table >= top.unsqueeze(1)).sum(1)
        right.append((table.diagonal() >= top).double() / tied)
    return Recall(float(torch.cat(right).mean()), len(first))


def recalls(batches: Sequence[dict[str, tuple[Tensor, Tensor]]], pairs: Sequence[tuple[str, str]]) -> dict[str, Recall]:
    """Return the recall of each pair of modalities among all patients who have both.

    Shape:
        of each batch and modality vectors (B, D) and who has it (B,) bool.
    """
    found = {}
    for one, other in pairs:
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for batch in batches:
            both = batch[one][1] & batch[other][1]
            for side, name in zip(sides, (one, other), strict=True):
                side.append(batch[name][0][both])
        found[f"{one}-{other}"] = recall_at_one(*(torch.cat(side) for side in sides))
    return found
