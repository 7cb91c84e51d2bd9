"""How surprising a distance is: minus the logarithm of the share of training records that are as far or further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_TAIL = 0.05  # of the training records; beyond, distances are taken to fall off exponentially


@dataclass(frozen=True)
class Tail:
    """Distances of training records, sorted, and the mean excess over the highest twentieth's lowest."""

    known: Array
    level: float
    excess: float

    def surprise(self, distances: Array) -> Array:
        """Return minus the log share; 0 where a distance is not defined (NaN). Shape: (N,) -> (N,)."""
        if not len(self.known):
            return np.zeros(len(distances))
        further = len(self.known) - np.searchsorted(self.known, distances, side="left")
        share = (further + 1) / (len(self.known) + 1)
        beyond = -np.log(_TAIL) + (distances - self.level) / self.excess
        found = np.where(distances > self.level, beyond, -np.log(np.maximum(share, _TAIL)))
        return np.where(np.isnan(distances), 0.0, found)


def fit_tail(distances: Array) -> Tail:
    """Learn how distances of training records fall off; the median of the excess, for errors may be among them.

    Shape:
        distances (N,), NaN where not defined.

    Reference:
        Davison, Smith, Models for Exceedances over High Thresholds, 1990 (here exponential, by the median).
    """
    known = np.sort(distances[np.isfinite(distances)])
    if not len(known):
        return Tail(known, 0.0, 1.0)
    level = float(np.quantile(known, 1 - _TAIL))
    above = known[known > level] - level
    excess = float(np.median(above) / np.log(2)) if len(above) else 0.0
    return Tail(known, level, max(excess, 1e-6 * max(1.0, abs(level))))
