"""Split conformal prediction: sets of classes and intervals that hold the truth as often as was asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from experiments.statistics.means import Quantities, ratio
from experiments.statistics.shares import Bounded

Array = NDArray[Any]


def conformal_quantile(scores: Array, level: float) -> float:
    """Return what a new score is at most with the probability `level`; infinite where there are too few scores.

    Shape:
        scores (N,), of patients who can be exchanged with the new one.

    Reference:
        Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005 (inductive conformal predictors).
    """
    place = math.ceil((len(scores) + 1) * level - 1e-9)
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def class_sets(target: Array, known: Array, new: Array, level: float, *, by_class: bool) -> Array:
    """Return the classes that cannot be excluded: those whose probability is not among the lowest of the truth.

    Args:
        target: the class of each known row. Shape: (N,) int64.
        known: their predicted probabilities. Shape: (N, K).
        new: those of rows without a truth. Shape: (M, K).
        level: how often the set shall hold the truth.
        by_class: whether that shall be so among the patients of each class, not only overall (Mondrian).

    Shape:
        -> (M, K) bool.

    Reference:
        Sadinle, Lei, Wasserman, Least Ambiguous Set-Valued Classifiers With Bounded Error Levels, 2019.
    """
    doubt = 1 - known.astype(np.float64)[np.arange(len(known)), target]
    whole = conformal_quantile(doubt, level)
    limits = [conformal_quantile(doubt[target == k], level) if by_class else whole for k in range(known.shape[1])]
    return np.asarray(1 - new.astype(np.float64) <= np.array(limits))


def intervals_around(target: Array, known: Array, new: Array, level: float) -> Array:
    """Return an interval around each new prediction, as wide for everybody. Shape: (N,), (N,), (M,) -> (M, 2)."""
    half = conformal_quantile(np.abs(target.astype(np.float64) - known), level)
    return np.stack([new - half, new + half], axis=1)


def coverage_by_chance(count: int, level: float) -> tuple[float, float]:
    """Return between what the true coverage lies for 95 of 100 draws of so many patients to calibrate on.

    Reference:
        Vovk, Conditional Validity of Inductive Conformal Predictors, 2012.
    """
    place = math.ceil((count + 1) * level - 1e-9)
    if place > count:
        return 1.0, 1.0
    low, high = beta.ppf([0.025, 0.975], place, count + 1 - place)
    return float(low), float(high)


def of_sets(classes: int) -> Quantities:
    """Return what sets are like: `coverage`, `size`, `empty`, `single`, `double`, `more`, and coverage by true class.

    Shape:
        of predictions (N, K) bool.
    """

    def rows(target: Array, sets: Array) -> Array:
        kind, size = target.astype(np.int64), sets.sum(1)
        covered = sets[np.arange(len(sets)), kind].astype(np.float64)
        member = np.eye(classes)[kind]
        sizes = [size, size == 0, size == 1, size == 2, size > 2]
        return np.concatenate([np.stack([covered, *sizes], axis=1), member * covered[:, None], member], axis=1)

    def finish(means: Array) -> Array:
        by_class = ratio(means[..., 6 : 6 + classes], means[..., 6 + classes :])
        return np.concatenate([means[..., :6], by_class], axis=-1)

    names = ("coverage", "size", "empty", "single", "double", "more", *(f"class {k}" for k in range(classes)))
    shares = {name: Bounded() for name in ("coverage", "empty", "single", "double", "more")}
    by_class = {f"class {k}": Bounded(6 + classes + k) for k in range(classes)}
    return Quantities(names, rows, finish, {**shares, "size": Bounded(None, 0.0, float(classes), False), **by_class})


def _interval_rows(target: Array, bounds: Array) -> Array:
    width = np.where(np.isfinite(bounds).all(1), bounds[:, 1] - bounds[:, 0], np.nan)
    return np.stack([(bounds[:, 0] <= target) & (target <= bounds[:, 1]), width], axis=1)


OF_INTERVALS = Quantities(("coverage", "width"), _interval_rows, lambda means: means, {"coverage": Bounded()})
"""What intervals are like; infinite ones have no width. Shape: of predictions (N, 2)."""
