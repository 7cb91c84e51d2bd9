"""Held-out predictions from every set of modalities, put together over folds, and what metrics they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from experiments.evaluate import squeeze_outputs
from experiments.held_out import HeldOut
from experiments.metrics import METRICS, Metric
from experiments.scoring import Score, Tested
from fusion import Task

if TYPE_CHECKING:
    from experiments.sections import Findings

Array = NDArray[Any]
MOST_SHOWN = 6
"""Strategies that a picture and the longer tables show."""
_KINDS = ("fusion", "training")
_ALMOST = 1e-7  # a float32 probability may be exactly 0 or 1


@dataclass(frozen=True)
class Sets:
    """Predictions of one strategy; set `s` has the modality at place `j` where bit `j` of `s` is 1.

    Shape:
        by_seed (2**M, N) or (2**M, N, K) each; present (M, N) bool.
    """

    strategy: str
    modalities: tuple[str, ...]
    by_seed: tuple[Array, ...]
    present: Array

    def combined(self, tested: Tested, metric: Metric, weights: Array) -> list[Score]:
        """Return weighted sums of the metric of sets, averaged over seeds. Shape: weights (C, 2**M)."""
        each_seed = np.tile(weights, len(self.by_seed)) / len(self.by_seed)
        return tested.combined(metric, [each for seed in self.by_seed for each in seed], each_seed)

    def value(self, tested: Tested, metric: Metric, members: int) -> float:
        """Return the metric of a set, averaged over seeds and folds."""
        return float(
            np.mean(
                [metric(tested.target[rows], seed[members][rows]) for seed in self.by_seed for rows in tested.folds]
            )
        )

    def additive(self, task: Task) -> list[Array]:
        """Return predictions on the scale on which evidence adds up: log-odds, or values of a regression."""
        if task.kind == "regression":
            return [seed.astype(np.float64) for seed in self.by_seed]
        return [logit(np.clip(seed.astype(np.float64), _ALMOST, 1 - _ALMOST)) for seed in self.by_seed]


def all_sets(findings: Findings) -> tuple[list[Sets], list[str]]:
    """Return the strategies that read several modalities, best first, and which are left out because of NaN."""
    held_out, task = findings.held_out, findings.stores[0].task
    ranked = [row.strategy for row in findings.comparison.ranking() if row.kind in _KINDS]
    found = [each for name in ranked if (each := _sets(held_out, task, name)) is not None]
    finite = {each.strategy: all(np.isfinite(seed).all() for seed in each.by_seed) for each in found}
    return [each for each in found if finite[each.strategy]], [name for name, whole in finite.items() if not whole]


def tested_again(findings: Findings) -> tuple[Tested, Metric]:
    """Return the same resamples and primary metric as those of the comparison."""
    return findings.tested(), METRICS[findings.comparison.metric]


def pooled(held_out: HeldOut, by_fold: Sequence[Array]) -> Array:
    """Put arrays of folds where their rows are. Shape: (A, rows of a fold, ...) each -> (A, N, ...)."""
    first = by_fold[0]
    whole = np.empty((len(first), len(held_out.rows), *first.shape[2:]), first.dtype)
    for fold, part in enumerate(by_fold):
        whole[:, held_out.fold == fold] = part
    return whole


def _sets(held_out: HeldOut, task: Task, strategy: str) -> Sets | None:
    seeds, names = held_out.arrays(strategy, "coalitions"), held_out.arrays(strategy, "modalities")
    present = held_out.arrays(strategy, "present")
    if not seeds or not names or not present:
        return None
    by_seed = tuple(squeeze_outputs(task, pooled(held_out, folds)) for folds in seeds)
    return Sets(strategy, tuple(names[0][0].tolist()), by_seed, pooled(held_out, present[0]))
