"""AUROC without resampling: DeLong's covariance of several predictions of the same rows, also of clustered rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from experiments.statistics.intervals import Interval

Array = NDArray[Any]
_Z = float(ndtri(0.975))


@dataclass(frozen=True)
class Areas:
    """AUROCs of several predictions and their covariance; NaN where it cannot be told.

    Shape:
        values (S,), covariance (S, S).
    """

    values: NDArray[np.float64]
    covariance: NDArray[np.float64]

    def interval(self, weights: Array) -> Interval:
        """Return the 95% interval of a weighted mean of the areas, symmetric in log odds, so it stays within 0 and 1.

        An area of 0 or 1 has an estimated variance of zero, which is no evidence of certainty: its bounds are NaN.

        Shape:
            weights (S,), summing to 1.
        """
        value, error = self._combined(weights)
        if not 0 < value < 1:
            return Interval(value, float("nan"), float("nan"))
        centre, half = float(logit(value)), _Z * error / (value * (1 - value))
        return Interval(value, float(expit(centre - half)), float(expit(centre + half)))

    def difference(self, weights: Array) -> tuple[Interval, float]:
        """Return a contrast of the areas with its 95% interval, and the p value of its being zero.

        Where nothing varies the p value is 1 for no difference and NaN for any other.

        Shape:
            weights (S,), summing to 0.
        """
        value, error = self._combined(weights)
        span = Interval(value, value - _Z * error, value + _Z * error)
        if error > 0:
            return span, float(2 * ndtr(-abs(value) / error))
        return span, 1.0 if abs(value) < 1e-12 and error == 0 else float("nan")

    def _combined(self, weights: Array) -> tuple[float, float]:
        variance = float(weights @ self.covariance @ weights)
        variance = 0.0 if abs(variance) < 1e-15 else variance  # a float's worth of a difference of nothing
        return float(weights @ self.values), float(np.sqrt(variance)) if variance >= 0 else float("nan")


def delong(target: Array, predictions: Array, subject_ids: Array | None = None) -> Areas:
    """Return the AUROC of each prediction and their covariance over patients.

    Rows of one patient may depend on each other: sums over a patient stand for its rows, which is DeLong's estimate
    where each patient has one row. With one class only, or all rows of a class from one patient, it is NaN.

    Shape:
        target (N,) of 0 and 1; predictions (S, N); subject_ids (N,).

    Reference:
        DeLong, DeLong, Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating
        Characteristic Curves, 1988; Sun, Xu, Fast Implementation of DeLong's Algorithm, 2014 (midranks); Obuchowski,
        Nonparametric Analysis of Clustered ROC Curve Data, 1997.
    """
    positive = np.asarray(target) > 0
    count = len(predictions)
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return Areas(np.full(count, np.nan), np.full((count, count), np.nan))
    rank = rankdata(predictions, axis=1)
    of_ones = (rank[:, positive] - rankdata(predictions[:, positive], axis=1)) / zeros
    of_zeros = 1 - (rank[:, ~positive] - rankdata(predictions[:, ~positive], axis=1)) / ones
    values = of_ones.mean(1)
    patient = np.unique(np.arange(len(positive)) if subject_ids is None else subject_ids, return_inverse=True)[1]
    patients = int(patient.max()) + 1
    hits = _by_patient(of_ones - values[:, None], patient[positive], patients) / ones
    misses = _by_patient(of_zeros - values[:, None], patient[~positive], patients) / zeros
    cross = hits @ misses.T
    covariance = (
        _unbiased(len(np.unique(patient[positive]))) * (hits @ hits.T)
        + _unbiased(len(np.unique(patient[~positive]))) * (misses @ misses.T)
        + _unbiased(patients) * (cross + cross.T)
    )
    return Areas(values, covariance)


def mean_areas(areas: Sequence[Areas]) -> Areas:
    """Return the mean over groups of rows that share no patient, such as folds."""
    values = np.mean([each.values for each in areas], axis=0)
    return Areas(values, np.sum([each.covariance for each in areas], axis=0) / len(areas) ** 2)


def _by_patient(components: Array, patient: Array, patients: int) -> NDArray[np.float64]:
    """Add up the rows of a patient. Shape: (S, n), (n,) -> (S, P)."""
    return np.stack([np.bincount(patient, each, patients) for each in components])


def _unbiased(clusters: int) -> float:
    return clusters / (clusters - 1) if clusters > 1 else float("nan")
