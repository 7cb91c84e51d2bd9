"""Logistic regression of few columns: maximum likelihood by Newton's method."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[Any]
LEAST_RISK = 1e-7  # nearer to 0 or 1 than this, a risk counts as this
_STEPS = 50


def log_odds(risk: Array) -> Array:
    """Return the log odds of risks, finite also for 0 and 1. Shape: any."""
    kept = np.clip(risk.astype(np.float64), LEAST_RISK, 1 - LEAST_RISK)
    return np.asarray(np.log(kept / (1 - kept)))


def logistic(design: Array, target: Array, offset: Array | float = 0.0) -> Array:
    """Return the coefficients; NaN where there is no maximum, because the columns separate the classes or agree.

    Shape:
        design (N, P), target (N,) between 0 and 1, offset (N,) -> (P,).
    """
    found = np.zeros(design.shape[1])
    nowhere = np.full(design.shape[1], np.nan)
    best = _likelihood(design @ found + offset, target)
    for _ in range(_STEPS):
        risk = expit(design @ found + offset)
        curvature = design.T @ ((risk * (1 - risk))[:, None] * design)
        if np.linalg.matrix_rank(curvature, hermitian=True) < len(found):
            return nowhere
        step = np.linalg.solve(curvature, design.T @ (target - risk))
        while (after := _likelihood(design @ (found + step) + offset, target)) < best - 1e-9 * abs(best):
            step = step / 2
        found, best = found + step, after
        if np.abs(step).max() < 1e-9:
            return found
    return nowhere


def _likelihood(value: Array, target: Array) -> float:
    return float((target * value - np.logaddexp(0, value)).sum())
