"""Scores of predictions on tested patients: by fold, and on the same resampled patients for everything compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.metrics import Metric
from experiments.statistics.bootstrap import Resamples, mean_distribution, metric_distributions
from experiments.statistics.combined_areas import MOST_PAIRS, combined_areas
from experiments.statistics.intervals import Interval, interval
from experiments.statistics.means import Quantities
from experiments.statistics.separated import Separated
from experiments.statistics.shares import Among, Bounded, mean_among

Array = NDArray[Any]


class Score(NamedTuple):
    """One metric of one or more predictions: in each fold, on resamples, and with patients left out (for BCa only).

    `among` is there for shares, other means of what is bounded, and areas, whose resamples may show no spread.

    Shape:
        folds (F,), distribution (R,), left_out (G,).
    """

    folds: Array
    distribution: Array
    left_out: Array | None
    among: Among | Separated | None = None

    @property
    def value(self) -> float:
        """The mean over folds; NaN where a fold has none."""
        return float(self.folds.mean())

    @property
    def interval(self) -> Interval:
        """The value with its 95% interval over patients."""
        if self.among is not None:
            return self.among.interval(self.value, self.distribution, self.left_out)
        return interval(self.value, self.distribution, self.left_out)

    def minus(self, other: Score) -> Score:
        """Return the paired difference."""
        left_out = None if self.left_out is None or other.left_out is None else self.left_out - other.left_out
        return Score(self.folds - other.folds, self.distribution - other.distribution, left_out)


@dataclass(frozen=True)
class Tested:
    """The rows that strategies are tested on, and the resamples of their patients.

    Shape:
        target (N,) or (N, K); subject_ids (N,); folds: the rows of each fold, together all of them.
    """

    target: Array
    subject_ids: Array
    folds: tuple[Array, ...]
    drawn: Resamples
    without: Resamples | None

    @classmethod
    def of(
        cls,
        target: Array,
        subject_ids: Array,
        fold: Array | None = None,
        *,
        resamples: int = 1000,
        seed: int = 0,
        bca: bool = False,
    ) -> Tested:
        """Draw the resamples; patients of a fold stand for those of the same fold.

        Shape:
            target (N,) or (N, K); subject_ids (N,); fold (N,) int64, one for all rows of a patient.
        """
        of_row = np.zeros(len(target), np.int64) if fold is None else fold
        drawn = Resamples.draw(subject_ids, resamples, seed, of_row)
        without = Resamples.leave_out(subject_ids, seed) if bca else None
        rows = tuple(np.flatnonzero(of_row == each) for each in np.unique(of_row))
        return cls(target, subject_ids, rows, drawn, without)

    def score(self, metrics: Sequence[Metric], prediction: Array) -> dict[str, Score]:
        """Evaluate one prediction by each metric. Shape: prediction (N,) or (N, K)."""
        single = np.array([[metric(self.target[rows], prediction[rows]) for rows in self.folds] for metric in metrics])
        drawn = self._distributions(metrics, prediction, self.drawn)
        without = self._distributions(metrics, prediction, self.without) if self.without is not None else {}
        binary = self.target.ndim == 1 and prediction.ndim == 1
        areas = {"auroc": Separated.of(self.target, self.drawn.patient, self.folds)} if binary else {}
        return {
            metric.name: Score(folds, drawn[metric.name], without.get(metric.name), areas.get(metric.name))
            for metric, folds in zip(metrics, single, strict=True)
        }

    def combined(self, metric: Metric, predictions: Sequence[Array], weights: Array) -> list[Score]:
        """Return weighted sums of a metric of several predictions. Shape: (N,) or (N, K) each; weights (C, S)."""
        pairs = max(int((self.target[rows] > 0).sum() * (self.target[rows] <= 0).sum()) for rows in self.folds)
        if metric.name != "auroc" or pairs > MOST_PAIRS:
            scores = [self.score([metric], each)[metric.name] for each in predictions]
            return [weighted_sum(each, scores) for each in weights]
        single = [[metric(self.target[rows], each[rows]) for rows in self.folds] for each in predictions]
        whole = np.stack(predictions)
        drawn = self._areas(whole, weights, self.drawn)
        without = self._areas(whole, weights, self.without) if self.without is not None else None
        return [
            Score(folds, drawn[i], without[i] if without is not None else None)
            for i, folds in enumerate(weights @ np.array(single))
        ]

    def quantities(self, wanted: Quantities, prediction: Array) -> dict[str, Score]:
        """Evaluate functions of means by name, the rows of all folds taken together. Shape: prediction (N, ...)."""
        columns = wanted.rows(self.target, prediction)
        value = wanted.finish(columns.mean(0))
        drawn = wanted.finish(mean_distribution(columns, self.drawn))
        without = wanted.finish(mean_distribution(columns, self.without)) if self.without is not None else None
        among = {name: self._among(each, columns) for name, each in wanted.bounded.items()}
        return {
            name: Score(value[i : i + 1], drawn[:, i], without[:, i] if without is not None else None, among.get(name))
            for i, name in enumerate(wanted.names)
        }

    def among(self, rows: Array) -> Tested:
        """Return some of the rows on the same resamples; a fold without any of them is gone. Shape: rows (M,) int64."""
        fold = np.empty(len(self.target), np.int64)
        for place, mine in enumerate(self.folds):
            fold[mine] = place
        folds = tuple(np.flatnonzero(fold[rows] == place) for place in np.unique(fold[rows]))
        without = self.without.of(rows) if self.without is not None else None
        return Tested(self.target[rows], self.subject_ids[rows], folds, self.drawn.of(rows), without)

    def _among(self, bounded: Bounded, columns: Array) -> Among:
        """Count the rows that a mean is of. Shape: columns (N, C)."""
        counts = np.ones(len(columns)) if bounded.column is None else columns[:, bounded.column]
        return Among.of(counts, self.drawn.patient, bounded)

    def _areas(self, predictions: Array, weights: Array, resamples: Resamples) -> list[Array]:
        """Return sums of AUROCs, means over folds with both outcomes. Shape: (S, N), (C, S) -> (R,) each."""
        found = [
            combined_areas(self.target[rows], predictions[:, rows], weights, resamples.of(rows)) for rows in self.folds
        ]
        return [_mean_of_defined(np.stack([each[i] for each in found])) for i in range(len(weights))]

    def _distributions(self, metrics: Sequence[Metric], prediction: Array, resamples: Resamples) -> dict[str, Array]:
        """Average over the folds in which a metric is defined in a resample. Shape: (R,) each."""
        found = [
            metric_distributions(metrics, self.target[rows], prediction[rows], resamples.of(rows))
            for rows in self.folds
        ]
        return {metric.name: _mean_of_defined(np.stack([each[metric.name] for each in found])) for metric in metrics}


def weighted_sum(weights: Array, scores: Sequence[Score]) -> Score:
    """Return a weighted sum of scores, resample by resample. Shape: weights (len(scores),)."""
    left_out = [each.left_out for each in scores if each.left_out is not None]
    return Score(
        np.tensordot(weights, [each.folds for each in scores], 1),
        np.tensordot(weights, [each.distribution for each in scores], 1),
        np.tensordot(weights, left_out, 1) if left_out else None,
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean over seeds."""
    mean = weighted_sum(np.full(len(scores), 1 / len(scores)), scores)
    among = [each.among for each in scores if isinstance(each.among, Among)]
    return mean._replace(
        among=mean_among(among) if among else scores[0].among
    )  # areas of all seeds are of the same rows


def _mean_of_defined(values: Array) -> Array:
    """Average what is defined; NaN where nothing is. Shape: (F, R) -> (R,)."""
    defined = np.isfinite(values)
    counts = defined.sum(0)
    out = np.full(values.shape[1], np.nan)
    np.divide(np.where(defined, values, 0.0).sum(0), counts, out=out, where=counts > 0)
    return out
