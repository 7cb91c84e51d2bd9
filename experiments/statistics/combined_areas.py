"""Weighted sums of the AUROCs of many predictions of the same patients, on every resample, without ranking each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.bootstrap import Resamples

Array = NDArray[Any]
MOST_PAIRS = 2_000_000
"""Pairs of a positive and a negative beyond which ranking each prediction is faster."""
_CELLS = 1_000_000  # comparisons held at once


def combined_areas(target: Array, predictions: Array, weights: Array, resamples: Resamples) -> Array:
    """Return weighted sums of AUROCs on every resample; NaN where one of the two outcomes is not in it.

    An AUROC is a mean over pairs of a positive and a negative of who ranks higher, and a sum of means over the same
    pairs is a mean of sums: pairs are summed over predictions once, and resampled once a sum.

    Shape:
        target (N,), predictions (S, N), weights (C, S) -> (C, R).
    """
    positive, negative = np.flatnonzero(target > 0), np.flatnonzero(target <= 0)
    if not len(positive) or not len(negative):
        return np.full((len(weights), len(resamples.counts)), np.nan)
    hits = resamples.counts[:, resamples.patient[positive]].astype(np.float32)
    others = resamples.counts[:, resamples.patient[negative]].astype(np.float32)
    kernels = np.empty((len(weights), len(positive), len(negative)), np.float32)  # 1 above, 0 for a tie, -1 below
    step = max(1, _CELLS // (len(predictions) * len(negative)))
    mixing = weights.astype(np.float32)
    for start in range(0, len(positive), step):
        block = positive[start : start + step]
        above = np.sign(predictions[:, block, None] - predictions[:, None, negative]).astype(np.float32, copy=False)
        kernels[:, start : start + step] = np.tensordot(mixing, above, 1)
    sums = np.stack([((hits @ kernel) * others).sum(1, dtype=np.float64) for kernel in kernels])
    pairs = hits.sum(1, dtype=np.float64) * others.sum(1, dtype=np.float64)
    means = np.divide(sums, pairs, out=np.full(sums.shape, np.nan), where=pairs > 0)
    return (weights.sum(1)[:, None] + means) / 2
