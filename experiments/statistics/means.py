"""Metrics that are functions of means over rows, which resampling gets from one product of matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.shares import Bounded

Array = NDArray[Any]


def first(means: Array) -> Array:
    """Return the only mean as it is. Shape: (..., 1) -> (...)."""
    return means[..., 0]


@dataclass(frozen=True)
class OfMeans:
    """A function of weighted means of columns, each row's columns being its own.

    Shape:
        rows: target and prediction (N,) or (N, K) -> (N, C); finish: (..., C) -> (...).
    """

    rows: Callable[[Array, Array], Array]
    finish: Callable[[Array], Array] = first

    def __call__(self, target: Array, prediction: Array, weight: Array) -> float:
        """Evaluate. Shape: target and prediction (N,) or (N, K); weight (N,) -> float."""
        return float(self.finish(weight @ self.rows(target, prediction) / np.sum(weight)))


@dataclass(frozen=True)
class Quantities:
    """Named functions of weighted means, all from the same columns; `bounded` says which are means of what has bounds.

    Shape:
        rows: target and prediction (N, ...) -> (N, C); finish: (..., C) -> (..., Q), one a name.
    """

    names: tuple[str, ...]
    rows: Callable[[Array, Array], Array]
    finish: Callable[[Array], Array]
    bounded: Mapping[str, Bounded] = field(default_factory=dict)


def ratio(value: Array, by: Array) -> Array:
    """Divide; NaN by zero. Shape: any two that broadcast."""
    value, by = np.broadcast_arrays(np.asarray(value, np.float64), np.asarray(by, np.float64))
    return np.divide(value, by, out=np.full(value.shape, np.nan), where=by != 0)
