"""95% intervals and p values from what a metric came to on resampled patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[Any]

_TAILS = (0.025, 0.975)
_NEGLIGIBLE_BIAS = 0.25  # in standard errors


@dataclass(frozen=True)
class Interval:
    """A value with a 95% interval over resampled patients."""

    value: float
    low: float
    high: float


def interval(value: float, distribution: Array, left_out: Array | None = None) -> Interval:
    """Return the value with its percentile interval, or with its BCa interval where `left_out` is given.

    Shape:
        distribution (R,), the metric on resamples; left_out (G,), the metric without each patient or group.
    """
    return percentile_interval(value, distribution) if left_out is None else bca_interval(value, distribution, left_out)


def percentile_interval(value: float, distribution: Array) -> Interval:
    """Return the value with the 2.5% and 97.5% percentiles of its distribution.

    Resampling itself biases some metrics: repeated patients make every bin look worse calibrated. Where that
    bias is more than a quarter of the standard error, the percentiles are moved back by it; never below zero
    for a metric that has no negative values.

    Shape:
        distribution (R,).

    Reference:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993 (section 10.3: when a bias can be ignored).
    """
    defined = distribution[np.isfinite(distribution)]
    if not len(defined) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = (float(bound) for bound in np.quantile(defined, _TAILS))
    bias = float(defined.mean()) - value
    if abs(bias) > max(_NEGLIGIBLE_BIAS * float(defined.std()), 1e-9):
        floor = 0.0 if min(value, float(defined.min())) >= 0 else -np.inf
        low, high = max(floor, low - bias), high - bias
    return Interval(value, low, high)


def bca_interval(value: float, distribution: Array, left_out: Array) -> Interval:
    """Return the value with its bias-corrected and accelerated interval.

    The percentiles are chosen by how far the distribution lies from the value (its share below, ties half)
    and by how the standard error changes with the value (skewness of the jackknife). Where every resample lies on one
    side of the value, no percentile can be right, and the percentile interval, moved by its bias, is returned. A
    jackknife of nothing but equal values has no skewness.

    Shape:
        distribution (R,); left_out (G,).

    Reference:
        Efron, Better Bootstrap Confidence Intervals, 1987; groups of patients are left out instead of single ones where
        there are many, which leaves the expected acceleration as it is.
    """
    defined = distribution[np.isfinite(distribution)]
    if not len(defined) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    near = np.isclose(defined, value, rtol=0, atol=1e-12)
    share = ((defined < value) & ~near).mean() + near.mean() / 2
    if share in (0, 1):
        return percentile_interval(value, distribution)
    centre = ndtri(share)
    whole = left_out[np.isfinite(left_out)]
    influence = whole.mean() - whole if len(whole) else np.zeros(1)
    scale = float((influence**2).sum())
    acceleration = float((influence**3).sum()) / (6 * scale**1.5) if scale > 1e-24 else 0.0
    moved = centre + ndtri(_TAILS)
    low, high = np.quantile(defined, ndtr(centre + moved / (1 - acceleration * moved)))
    return Interval(value, float(low), float(high))


def two_sided_p(difference: Array) -> float:
    """Return how often resampling turns a difference around, doubled; 1 where nothing differs.

    Shape:
        (R,) -> float.
    """
    defined = difference[np.isfinite(difference)]
    if not len(defined):
        return float("nan")
    below, above = int((defined <= 0).sum()), int((defined >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(defined) + 1))
