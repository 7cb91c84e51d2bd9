"""Many tests at once: p values adjusted for how many there are. NaN stays NaN and is not counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import false_discovery_control


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
