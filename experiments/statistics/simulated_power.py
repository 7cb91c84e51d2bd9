"""The smallest difference in any metric that a planned comparison could show, from simulated predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, softmax

from experiments.statistics.bootstrap import Measure

Array = NDArray[Any]
_STREAM = 70_006
_RUNS = 200  # the standard error is then known to 5%
_MOST = 2000  # patients a run: the error of more is that of so many, scaled
_LEAST_AUROC = 0.51  # at 0.5 both predictions would be the same for everybody


@dataclass(frozen=True)
class Assumed:
    """How good the lower of two strategies is, and how what both get wrong correlates among patients.

    `auroc` is that of each class or label against the rest, `explained` the share of a number's variance.
    """

    auroc: float = 0.75
    explained: float = 0.25
    correlation: float = 0.5


class Simulated(NamedTuple):
    """What a metric comes to with such predictions, and the standard error of a difference between two of them.

    NaN where the metric is not defined in most simulations.
    """

    value: float
    error: float

    def smallest_difference(self, *, power: float, level: float) -> float:
        """Return the difference that a two-sided test finds with the wanted probability."""
        return float(ndtri(1 - level / 2) + ndtri(power)) * self.error


def simulate(
    metric: Measure, kind: str, target: Array, subject_ids: Array, assumed: Assumed, seed: int = 0
) -> Simulated:
    """Return what two equally good strategies would differ by, by chance, on such patients.

    In every run patients are drawn anew with their outcomes, and each gets two predictions that are calibrated but for
    noise. All rows of a patient share their noise, so that patients count and not rows. The error is taken where the
    two are equally good; a difference to be shown changes it little.

    Args:
        kind: of task.
        target: the outcomes, which are known before anything is trained. Shape: (N,) or (N, K).
        subject_ids: Shape: (N,).

    Reference:
        Arnold et al., Simulation Methods to Estimate Design Power, 2011 (power by simulation).
    """
    unique, patient = np.unique(subject_ids, return_inverse=True)
    rng = np.random.default_rng([_STREAM, seed])
    count = min(len(unique), _MOST)
    order, sizes = np.argsort(patient, kind="stable"), np.bincount(patient)
    starts = np.cumsum(sizes) - sizes
    predict = _PREDICTIONS[kind](target, assumed)
    columns = _columns(kind, target)
    found = []
    for _ in range(_RUNS):
        drawn = rng.integers(len(unique), size=count)
        size = sizes[drawn]
        within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
        rows = order[np.repeat(starts[drawn], size) + within]
        common, *own = rng.normal(size=(3, count, columns))
        noises = (math.sqrt(assumed.correlation) * common + math.sqrt(1 - assumed.correlation) * each for each in own)
        found.append([metric(target[rows], predict(target[rows], np.repeat(each, size, axis=0))) for each in noises])
    pairs = np.array(found)
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < _RUNS / 2:
        return Simulated(math.nan, math.nan)
    error = float(np.std(pairs[:, 0] - pairs[:, 1])) * math.sqrt(count / len(unique))
    return Simulated(float(pairs.mean()), error)


def _columns(kind: str, target: Array) -> int:
    if kind == "multiclass":
        return int(target.max()) + 1
    return target.shape[1] if target.ndim == 2 else 1


Predict = Callable[[Array, Array], Array]
"""Makes predictions of outcomes and noise. Shape: (n,) or (n, K), (n, K) -> (n,) or (n, K)."""


def _yes_or_no(target: Array, assumed: Assumed) -> Predict:
    """Return risks whose log odds are normal in both classes and as far apart as the AUROC says."""
    shift = _shift(assumed)
    often = logit(np.clip(target.mean(0), 1e-4, 1 - 1e-4))

    def predict(truth: Array, noise: Array) -> Array:
        mine = noise if truth.ndim == 2 else noise[:, 0]
        return np.asarray(expit(shift * (shift * truth + mine) - shift**2 / 2 + often))

    return predict


def _classes(target: Array, assumed: Assumed) -> Predict:
    """Return probabilities from a normal score a class, whose mean is higher for the true one."""
    shift, count = _shift(assumed), _columns("multiclass", target)
    kinds = target.astype(np.int64)
    often = np.log(np.clip(np.bincount(kinds, minlength=count) / len(kinds), 1e-4, None))

    def predict(truth: Array, noise: Array) -> Array:
        scores = shift * np.eye(count)[truth.astype(np.int64)] + noise
        return np.asarray(softmax(shift * scores + often, axis=1))

    return predict


def _numbers(target: Array, assumed: Assumed) -> Predict:
    """Return the best guesses from something that explains that share of the variance."""
    mean, spread, root = float(target.mean()), float(target.std()) or 1.0, math.sqrt(assumed.explained)

    def predict(truth: Array, noise: Array) -> Array:
        seen = root * (truth - mean) / spread + math.sqrt(1 - assumed.explained) * noise[:, 0]
        return np.asarray(mean + spread * root * seen)

    return predict


def _shift(assumed: Assumed) -> float:
    return math.sqrt(2) * float(ndtri(max(assumed.auroc, _LEAST_AUROC)))


_PREDICTIONS = {"binary": _yes_or_no, "multilabel": _yes_or_no, "multiclass": _classes, "regression": _numbers}
