"""Retrieval: whether the nearest vector of another modality is the same patient's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

_SHARPEST = 1000.0  # one over the lowest temperature looked at

Vectors = dict[str, tuple[Tensor, Tensor]]
"""Of each modality a vector a patient (B, D), and who has it (B,) bool."""


class Recall(NamedTuple):
    """How often the nearest of `patients` is the right one, both ways taken together; by chance it is 1 / patients.

    `loss` is the mean surprise at the right one, at the temperature that suits these patients best.
    """

    value: float
    patients: int
    loss: float = 0.0

    @property
    def chance(self) -> float:
        """What guessing gives."""
        return 1 / max(1, self.patients)


def found_at_once(first: Tensor, second: Tensor) -> Tensor:
    """Look for each patient's vector of one modality among all of the other, both ways. Shape: (N, D) twice -> (N,).

    A tie counts as the share of the tied that is right.
    """
    alike = first @ second.T
    right = []
    for table in (alike, alike.T):
        top = table.max(1).values
        tied = (table >= top.unsqueeze(1)).sum(1)
        right.append((table.diagonal() >= top).double() / tied)
    return torch.stack(right).mean(0)


def surprise(first: Tensor, second: Tensor) -> float:
    """Return the symmetric InfoNCE of all pairs at its best temperature. Shape: (N, D) twice.

    At the temperature of training a loss rises when vectors become too sure, also while the right one is found more
    often; it would end training too early.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017 (the temperature of what was not learned from).
    """
    alike = (first @ second.T).double()
    own = torch.arange(len(alike), device=alike.device)

    def loss(sharpness: float) -> float:
        sharp = alike * math.exp(sharpness)
        return float(functional.cross_entropy(sharp, own) + functional.cross_entropy(sharp.T, own)) / 2

    best = minimize_scalar(loss, bounds=(math.log(1e-3), math.log(_SHARPEST)), method="bounded")
    return float(min(best.fun, math.log(len(alike))))  # no sharpness at all is chance


def recall_at_one(first: Tensor, second: Tensor) -> Recall:
    """Return how often the right patient is nearest. Shape: (N, D) twice."""
    if not len(first):
        return Recall(0.0, 0)
    return Recall(float(found_at_once(first, second).mean()), len(first), surprise(first, second))


def both_of(batches: Sequence[Vectors], one: str, other: str) -> tuple[Tensor, Tensor]:
    """Return the vectors of all patients who have both modalities. Shape: -> (N, D) twice."""
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for batch in batches:
        both = batch[one][1] & batch[other][1]
        for side, name in zip(sides, (one, other), strict=True):
            side.append(batch[name][0][both])
    return torch.cat(sides[0]), torch.cat(sides[1])


def recalls(batches: Sequence[Vectors], pairs: Sequence[tuple[str, str]]) -> dict[str, Recall]:
    """Return the recall of each pair of modalities among all patients who have both."""
    return {f"{one}-{other}": recall_at_one(*both_of(batches, one, other)) for one, other in pairs}
