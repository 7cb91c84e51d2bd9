"""Resamples of patients, and metrics on a thousand of them: one sort and cumulative sums, no loop over resamples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.means import OfMeans

Array = NDArray[Any]
_CELLS = 200_000  # weights held at once: bounds memory, and what stays in the cache is twice as fast
_STREAM = 70_001  # keeps draws apart from those of data and splits made with the same seed
_GROUPS = 200  # of a jackknife: its skewness hardly changes with more, its cost does


class Measure(Protocol):
    """A metric of targets, predictions and row weights; NaN where it is not defined."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def function(self) -> Any:
        """How it is evaluated; an `OfMeans` is evaluated on all resamples at once."""

    def __call__(self, target: Array, prediction: Array, weight: Array | None = None) -> float:
        """Evaluate. Shape: target and prediction (N,) or (N, K); weight (N,) -> float."""


@dataclass(frozen=True)
class Resamples:
    """The same resampled patients for everything that is compared.

    Shape:
        patient (N,) int64, which patient a row is of; counts (R, P), how often each patient is in a resample.
    """

    patient: NDArray[np.int64]
    counts: NDArray[np.uint16]

    @classmethod
    def draw(cls, subject_ids: Array, resamples: int, seed: int, strata: Array | None = None) -> Resamples:
        """Draw patients with replacement, all rows of a patient together; as many of each stratum as it has.

        Shape:
            subject_ids (N,); strata (N,) int64, the same for all rows of a patient.
        """
        unique, first, patient = np.unique(subject_ids, return_index=True, return_inverse=True)
        rng = np.random.default_rng([_STREAM, seed])
        counts = np.zeros((resamples, len(unique)), np.uint16)
        of_patient = np.zeros(len(unique), np.int64) if strata is None else strata[first]
        for stratum in np.unique(of_patient):
            mine = np.flatnonzero(of_patient == stratum)
            for row in counts:
                row[mine] = np.bincount(rng.integers(len(mine), size=len(mine)), minlength=len(mine))
        return cls(patient, counts)

    @classmethod
    def leave_out(cls, subject_ids: Array, seed: int, groups: int = _GROUPS) -> Resamples:
        """Leave out each patient once, or each of many random groups of patients. Shape: subject_ids (N,)."""
        unique, patient = np.unique(subject_ids, return_inverse=True)
        groups = min(groups, len(unique))
        group = np.random.default_rng([_STREAM, seed]).permutation(len(unique)) % groups
        return cls(patient, (group[None, :] != np.arange(groups)[:, None]).astype(np.uint16))

    def of(self, rows: Array) -> Resamples:
        """Return the same resamples for some rows. Shape: rows (M,) int64."""
        return Resamples(self.patient[rows], self.counts)

    def taken(self, rows: Array | None = None) -> Iterator[Array]:
        """Yield how often rows (all, in order, unless given) are in a few resamples at a time.

        Shape:
            rows (M,) int64, may repeat -> (r, M) uint16.
        """
        patient = self.patient if rows is None else self.patient[rows]
        step = max(1, _CELLS // max(1, len(patient)))
        for start in range(0, len(self.counts), step):
            yield self.counts[start : start + step].take(patient, axis=1)

    def weights(self) -> Iterator[Array]:
        """Yield the weights of all rows in a few resamples at a time. Shape: (r, N) float64."""
        return (counts.astype(np.float64) for counts in self.taken())


def metric_distribution(metric: Measure, target: Array, prediction: Array, resamples: Resamples) -> Array:
    """Evaluate a metric on every resample; NaN where it is not defined there.

    Shape:
        target and prediction (N,) or (N, K) -> (R,).
    """
    return metric_distributions([metric], target, prediction, resamples)[metric.name]


def metric_distributions(
    metrics: Sequence[Measure], target: Array, prediction: Array, resamples: Resamples
) -> dict[str, Array]:
    """Evaluate metrics on every resample, by name; what ranks is ranked once for all metrics that need it.

    Shape:
        target and prediction (N,) or (N, K) -> (R,) each.
    """
    passes: dict[str, tuple[Array, Array]] = {}
    found = _means(
        {m.name: m.function for m in metrics if isinstance(m.function, OfMeans)}, target, prediction, resamples
    )
    for metric in metrics:
        if metric.name in _RANKED:
            way, place = _RANKED[metric.name]
            if way not in passes:
                precise = any(_RANKED.get(each.name) == (way, 1) for each in metrics)
                passes[way] = _PASSES[way](target, prediction, resamples, precise)
            found[metric.name] = passes[way][place]
        elif metric.name not in found:
            each = (weight for weights in resamples.weights() for weight in weights)
            found[metric.name] = np.array([metric(target, prediction, w) if w.any() else np.nan for w in each])
    return found


def _means(
    functions: Mapping[str, OfMeans], target: Array, prediction: Array, resamples: Resamples
) -> dict[str, Array]:
    """Evaluate what hangs on means of rows on every resample, all by one product a chunk. Shape: (R,) each."""
    if not functions:
        return {}
    columns = [function.rows(target, prediction) for function in functions.values()]
    means = mean_distribution(np.concatenate(columns, axis=1), resamples)
    ends = np.cumsum([each.shape[1] for each in columns])[:-1]
    parts = np.split(means, ends, axis=1)
    return {name: function.finish(part) for (name, function), part in zip(functions.items(), parts, strict=True)}


def mean_distribution(columns: Array, resamples: Resamples) -> Array:
    """Return the means of columns on every resample; NaN where none of the rows is in it. Shape: (N, C) -> (R, C)."""
    table = np.concatenate([columns, np.ones((len(columns), 1))], axis=1)
    sums = np.concatenate([weights @ table for weights in resamples.weights()])
    means = np.full((len(sums), columns.shape[1]), np.nan)
    np.divide(sums[:, :-1], sums[:, -1:], out=means, where=sums[:, -1:] > 0)
    return means


def _curves(
    target: Array, prediction: Array, resamples: Resamples, precise: bool = True, width: int = 1
) -> tuple[Array, Array]:
    """Return the AUROC and the average precision of every resample.

    Only where a positive stands does either curve say something, so all but one running sum is as wide as there are
    positives. Ties count half (AUROC), or are one step (average precision), by reading the running sums where a group
    of ties begins and ends.

    Args:
        precise: whether the average precision is wanted; NaN if not.
        width: how many predictions in a row belong to one row of the cohort.

    Shape:
        target and prediction (width * N,) -> (R,) and (R,).
    """
    order = np.argsort(-prediction, kind="stable")
    score = prediction[order]
    begins = np.flatnonzero(np.concatenate([[True], np.diff(score) != 0]))
    tie = np.repeat(np.arange(len(begins)), np.diff([*begins, len(score)]))
    positive = np.flatnonzero(target[order] > 0)
    mine = tie[positive]
    begin, end = begins[mine], np.append(begins[1:], len(score))[mine] - 1  # of each positive's ties, among all
    first = np.searchsorted(mine, mine, side="left")  # and among positives, as is the next line
    last = np.searchsorted(mine, mine, side="right") - 1
    tied = len(begins) < len(score)
    most = int(resamples.counts.max(initial=0)) * len(order)
    number: Any = np.int32 if most < 2**31 else np.int64
    aurocs, precisions = [], []
    for counts in resamples.taken(order // width):
        weight = counts[:, positive]
        every, hits = np.cumsum(counts, axis=1, dtype=number), np.cumsum(weight, axis=1, dtype=number)
        positives = hits[:, -1].astype(np.float64) if len(positive) else np.zeros(len(counts))
        total = every[:, -1] - positives
        until, found = every[:, end], hits[:, last] if tied else hits
        above = until - found  # negatives at or above each positive
        if tied:
            before = every[:, begin] - counts[:, begin] - (hits[:, first] - weight[:, first])
            above = (above + before) / 2
        area = total * positives - np.einsum("rp,rp->r", weight, above, dtype=np.float64)
        aurocs.append(_divided(area, total * positives))
        if not precise:
            precisions.append(np.full(len(counts), np.nan))
            continue
        precision = np.divide(found, until, out=np.zeros(until.shape), where=until > 0)
        precisions.append(_divided(np.einsum("rp,rp->r", weight, precision), positives))
    return np.concatenate(aurocs), np.concatenate(precisions)


def _each(target: Array, prediction: Array, resamples: Resamples, precise: bool) -> tuple[Array, Array]:
    """Average over classes or labels, in each resample over those that are defined there."""
    truth = target if target.ndim == 2 else target[:, None] == np.arange(prediction.shape[1])
    found = np.array([_curves(truth[:, k], prediction[:, k], resamples, precise) for k in range(prediction.shape[1])])
    defined = np.isfinite(found)
    sums, counts = np.where(defined, found, 0.0).sum(0), defined.sum(0)
    return _divided(sums[0], counts[0]), _divided(sums[1], counts[1])


def _pooled(target: Array, prediction: Array, resamples: Resamples, precise: bool) -> tuple[Array, Array]:
    """Rank all pairs of row and label together."""
    return _curves(target.ravel(), prediction.ravel(), resamples, precise, target.shape[1])


def _divided(value: Array, by: Array) -> Array:
    """Divide, giving NaN by zero."""
    out = np.full(len(value), np.nan)
    np.divide(value, by, out=out, where=by > 0)
    return out


_PASSES = {"one": _curves, "each": _each, "pooled": _pooled}
_RANKED = {
    "auroc": ("one", 0),
    "auprc": ("one", 1),
    "auroc_ovr": ("each", 0),
    "auroc_macro": ("each", 0),
    "auprc_macro": ("each", 1),
    "auroc_micro": ("pooled", 0),
}
"""Metrics that rank: how they go through rows and outputs, and which of the two curves they are."""
