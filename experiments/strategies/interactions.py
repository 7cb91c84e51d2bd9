"""Controlled interactions: the more often a run predicts drugs that interact, the more it learns not to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.statistics.sets import CUT
from experiments.tasks.interactions import interaction_rate

TOLERATED = 0.005
"""How far above its target a rate of tuning patients may be before another epoch is better whatever its score."""


class Controlled(NamedTuple):
    """What a batch's answers call for: how much the run's own losses count, and the loss of interactions.

    Shape:
        three scalars; `rate` is the share of interacting pairs among the pairs of the predicted sets.
    """

    own: Tensor
    unsafe: Tensor
    rate: Tensor


class InteractionControl(nn.Module):
    """A proportional controller between a run's losses and the loss of interacting pairs.

    With r the interaction rate of the sets predicted for a batch, the run's losses count b = 1 where r <= target, or
    else b = max(0, 1 - (r - target) / gain); the loss of interactions counts 1 - b. That loss is `weight` times the
    mean over patients and interacting pairs i, j of p_i p_j. A batch that predicts no pair has rate 0. A heavy loss
    with a wide gain holds the rate near its target with b near 1; a light one or a narrow gain lets training swing
    between the truth alone and interactions alone, and costs much more (docs/medication.md).

    Reference:
        Yang et al., SafeDrug: Dual Molecular Graph Encoders for Recommending Effective and Safe Drug Combinations,
        2021. There the loss is 0.0005 times the sum over pairs, the rate is that of one visit, and the published code
        takes min(0, .) in place of max(0, .): any excess then gives the truth no weight or a negative one.
    """

    matrix: Tensor

    def __init__(self, matrix: NDArray[Any], target: float, gain: float, weight: float) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=torch.float32), persistent=False)
        self.target, self.gain, self.weight = target, gain, weight
        self.pairs = max(1.0, float(matrix.sum()) / 2)

    def forward(self, logits: Tensor) -> Controlled:
        """Judge the answers of a batch. Shape: (B, K)."""
        probability = logits.float().sigmoid()
        chosen = (probability.detach() >= CUT).float()
        count = chosen.sum(1)
        together = (count * (count - 1)).sum() / 2
        rate = self._interacting(chosen).sum() / together.clamp(min=1)
        own = (1 - (rate - self.target) / self.gain).clamp(0, 1)
        return Controlled(own, self.weight * self._interacting(probability).mean() / self.pairs, rate)

    def rate_of(self, predictions: NDArray[np.float32]) -> float:
        """Return the interaction rate of predictions; 0 where no pair is predicted. Shape: probabilities (N, K)."""
        return interaction_rate(predictions >= CUT, self.matrix.cpu().numpy() > 0) or 0.0

    def order(self, entry: Mapping[str, float], other: Mapping[str, float]) -> int:
        """Return 1 where an epoch interacts less than another beyond what is tolerated, -1 where it does more, or 0."""
        most = self.target + TOLERATED + 1e-9
        mine, others = (max(0.0, each["interaction_rate"] - most) for each in (entry, other))
        return (mine < others) - (mine > others)

    def _interacting(self, given: Tensor) -> Tensor:
        """Count interacting pairs, or expect their number. Shape: (B, K) -> (B,)."""
        return ((given @ self.matrix) * given).sum(1) / 2
