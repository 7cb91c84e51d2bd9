"""Intervals of shares, and of other means of what is bounded, that stay honest where resampling shows no spread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.intervals import Interval, interval

Array = NDArray[Any]
_Z = 1.959963984540054  # of a 95% interval


class Bounded(NamedTuple):
    """A quantity that is a mean over some rows, of which each lies between two ends.

    Args:
        column: of the rows, the one that is 1 where a row counts; all rows count without one.
        low: what a row can be at least.
        high: what a row can be at most.
        only_ends: whether a row is nothing but one of the two, so that the mean is a share.
    """

    column: int | None = None
    low: float = 0.0
    high: float = 1.0
    only_ends: bool = True


@dataclass(frozen=True)
class Among:
    """How many rows a mean is of, and as how many patients with one row each these at least count."""

    rows: float
    patients: float
    bounded: Bounded

    @classmethod
    def of(cls, counts: Array, patient: Array, bounded: Bounded) -> Among:
        """Count. Shape: counts (N,), 1 for a row that counts and 0 for another; patient (N,) int64."""
        return cls(float(counts.sum()), effective_patients(counts, patient), bounded)

    def interval(self, value: float, distribution: Array, left_out: Array | None = None) -> Interval:
        """Return the value with its 95% interval.

        A share has Wilson's, with as many rows as would vary as it does over resampled patients, but no more than there
        are; where no resample differs, as at 0 and 1, that number is the patients'. Another mean has the interval of
        its resamples; where no resample differs, all rows but a share that Wilson would still allow are as they are,
        and the others may lie at either end.

        Shape:
            distribution (R,); left_out (G,).

        Reference:
            Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927; Korn, Graubard,
            Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey
            Data, 1998 (the effective number of rows).
        """
        if not math.isfinite(value) or not self.rows:
            return Interval(value, math.nan, math.nan)
        least, most = self.bounded.low, self.bounded.high
        defined = distribution[np.isfinite(distribution)]
        varies = float(defined.var()) if len(defined) else 0.0
        still = varies <= (1e-9 * (most - least)) ** 2
        if not self.bounded.only_ends:
            if not still:
                return interval(value, distribution, left_out)
            other = wilson(0.0, self.patients)[1]
            return Interval(value, value - other * (value - least), value + other * (most - value))
        share = min(1.0, max(0.0, (value - least) / (most - least)))
        count = self.patients
        if not still and 0 < share < 1:
            count = min(self.rows, share * (1 - share) * (most - least) ** 2 / varies)
        low, high = wilson(share, count)
        return Interval(value, least + low * (most - least), least + high * (most - least))


def effective_patients(counts: Array, patient: Array) -> float:
    """Return as how many patients with one row each the rows that count at least count; 0 where none does.

    Shape:
        counts (N,), 1 for a row that counts and 0 for another; patient (N,) int64.

    Reference:
        Kish, Survey Sampling, 1965 (the effective number, here for rows of a patient that are all alike).
    """
    of_patient = np.bincount(patient, counts)
    squares = float((of_patient**2).sum())
    return float(of_patient.sum()) ** 2 / squares if squares else 0.0


def mean_among(found: list[Among]) -> Among:
    """Return the mean of counts over seeds, whose alerts, say, are not the same rows."""
    rows, patients = np.mean([[each.rows, each.patients] for each in found], axis=0)
    return Among(float(rows), float(patients), found[0].bounded)


def wilson(share: float | Array, count: float | Array) -> tuple[Any, Any]:
    """Return the ends of Wilson's 95% interval of a share of so many; these need not be whole numbers.

    Shape:
        any two that broadcast.
    """
    square = _Z**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _Z * np.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)
