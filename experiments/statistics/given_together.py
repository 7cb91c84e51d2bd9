"""Pairs of what is given together, and how many of them interact, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def pairs_given(given: Array, matrix: Array) -> Array:
    """Count the pairs of each row that interact, and all its pairs.

    Shape:
        given (N, K) of 0 and 1; matrix (K, K) symmetric, True where two interact -> (N, 2) float64.
    """
    chosen = np.asarray(given, np.float64)
    interacting = ((chosen @ matrix.astype(np.float64)) * chosen).sum(1) / 2
    count = chosen.sum(1)
    return np.stack([interacting, count * (count - 1) / 2], axis=1)
