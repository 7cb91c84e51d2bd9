"""Many tests at once: p values adjusted for how many there are. NaN stays NaN and is not counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

Array = NDArray[Any]
_NOTHING = 1e-12  # a spread that is rounding


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that the chance of any false finding stays at the level.

    Reference:
        Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
    """
    adjusted = [float("nan")] * len(p_values)
    order = sorted((i for i, p in enumerate(p_values) if np.isfinite(p)), key=lambda i: p_values[i])
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that the expected share of false findings among all findings stays at the level.

    Reference:
        Benjamini, Hochberg, Controlling the False Discovery Rate, 1995.
    """
    adjusted = np.array(p_values, np.float64)
    defined = np.isfinite(adjusted)
    if defined.any():
        adjusted[defined] = false_discovery_control(adjusted[defined])
    return [float(p) for p in adjusted]


def over_all_pairs(values: Array, distributions: Array) -> Array:
    """Return a p value for every pair of strategies, adjusted for all pairs that might have been looked at.

    It is how often resampling moves any pair, from where it was found, by as many standard errors as this pair was
    found apart. Who leads may therefore be looked up before it is tested, which no correction for the pairs of the
    leader alone allows. A pair that differs and never varies has p as small as resamples can show; an equal one 1.

    Shape:
        values (S,), distributions (S, R), NaN where not defined -> (S, S), NaN where either is not defined.

    Reference:
        Romano, Wolf, Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing, 2005 (the single step, on
        the pairs of Tukey's range test); Westfall, Young, Resampling-Based Multiple Testing, 1993.
    """
    found = np.full((len(values), len(values)), np.nan)
    defined = np.flatnonzero(np.isfinite(values) & np.isfinite(distributions).any(1))
    drawn = distributions[defined]
    drawn = drawn[:, np.isfinite(drawn).all(0)]
    if not drawn.shape[1]:
        return found
    first, second = np.triu_indices(len(defined), 1)
    gap = np.abs(values[defined][first] - values[defined][second])
    moved = drawn - drawn.mean(1, keepdims=True)
    error = np.array([(moved[i] - moved[j]).std() for i, j in zip(first, second, strict=True)])
    varies = error > _NOTHING
    furthest = np.zeros(drawn.shape[1])
    for i, j, each in zip(first[varies], second[varies], error[varies], strict=True):
        np.maximum(furthest, np.abs(moved[i] - moved[j]) / each, out=furthest)
    apart = np.where(varies, gap / np.where(varies, error, 1), np.where(gap > _NOTHING, np.inf, 0))
    as_far = len(furthest) - np.searchsorted(np.sort(furthest), apart)
    p = np.where(gap > _NOTHING, (1 + as_far) / (1 + len(furthest)), 1.0)
    found[defined[first], defined[second]] = found[defined[second], defined[first]] = p
    return found
