"""The interval of an area under the ROC curve that separates perfectly, whose resamples show no spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from experiments.statistics.intervals import Interval, interval
from experiments.statistics.shares import effective_patients

Array = NDArray[Any]
_Z = 1.959963984540054  # of a 95% interval


@dataclass(frozen=True)
class Separated:
    """How many patients with and without an outcome there are in each fold, of whose areas the mean is taken.

    Shape:
        positives (F,); negatives (F,).
    """

    positives: Array
    negatives: Array

    @classmethod
    def of(cls, target: Array, patient: Array, folds: tuple[Array, ...]) -> Separated:
        """Count. Shape: target (N,), 1 for the outcome; patient (N,) int64; the rows of each fold."""
        found = [
            [effective_patients((target[rows] > 0) == wanted, patient[rows]) for rows in folds]
            for wanted in (True, False)
        ]
        return cls(np.array(found[0]), np.array(found[1]))

    def interval(self, value: float, distribution: Array, left_out: Array | None = None) -> Interval:
        """Return the value with its 95% interval.

        It is that of its resamples, unless the value is 0 or 1 and no resample differs. Then it is a score interval:
        all areas from which the one that was found is less than 1.96 standard errors away, where the standard error is
        what it would be at that area.

        Shape:
            distribution (R,); left_out (G,).

        Reference:
            Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2:
            asymptotic methods and evaluation, 2006 (method 5; for the mean over folds, variances of folds add).
        """
        defined = distribution[np.isfinite(distribution)]
        still = bool(len(defined)) and float(np.ptp(defined)) < 1e-9
        if not still or not np.isclose(value, (0, 1), rtol=0, atol=1e-9).any():
            return interval(value, distribution, left_out)
        least = brentq(lambda area: 1 - area - _Z * self.error(area), 0.0, 1 - 1e-12)
        return Interval(value, least, 1.0) if value > 0.5 else Interval(value, 0.0, 1 - least)

    def error(self, area: float) -> float:
        """Return the standard error of the mean over folds if each had this area."""
        pairs = self.positives * self.negatives
        others = (self.positives + self.negatives) / 2 - 1
        spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
        return float(np.sqrt((area * (1 - area) * spread / pairs).sum()) / len(pairs))
