"""How alike the sets of labels are that rows have and are predicted to have: each row's own score, then their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.means import ratio

Array = NDArray[Any]
CUT = 0.5
"""A label whose probability is at least this is in the predicted set."""


def jaccard(target: Array, prediction: Array) -> Array:
    """Share of the labels in either set that are in both; 1 where both are empty. Shape: (N, K) twice -> (N, 1)."""
    both, either = _sizes(target, prediction)[:2]
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)[:, None]


def f1(target: Array, prediction: Array) -> Array:
    """Harmonic mean of precision and recall of the sets; 1 where both are empty. Shape: (N, K) twice -> (N, 1)."""
    both, either, sizes = _sizes(target, prediction)
    return np.where(either > 0, 2 * both / np.maximum(sizes, 1), 1.0)[:, None]


def precision_of_rows(target: Array, prediction: Array) -> Array:
    """Average precision of each row's ranking of labels, 0 where it has none, and whether it has any.

    Shape:
        (N, K) twice -> (N, 2).
    """
    order = np.argsort(-prediction, axis=1, kind="stable")
    score, hit = np.take_along_axis(prediction, order, 1), np.take_along_axis(target, order, 1) > 0
    places = np.arange(score.shape[1])
    ends = np.concatenate([np.diff(score, axis=1) != 0, np.ones((len(score), 1), bool)], axis=1)
    last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]  # of those tied
    precision = np.take_along_axis(hit.cumsum(1) / (places + 1), last, 1)
    count = hit.sum(1)
    return np.stack([(precision * hit).sum(1) / np.maximum(count, 1), count > 0], axis=1)


def mean_of_defined(means: Array) -> Array:
    """Divide the mean by the share of rows in which it is defined; NaN where none is. Shape: (..., 2) -> (...)."""
    return ratio(means[..., 0], means[..., 1])


def _sizes(target: Array, prediction: Array) -> tuple[Array, Array, Array]:
    """Count the labels in both sets, in either, and those of one and the other together. Shape: (N,) each."""
    has, given = target > 0, prediction >= CUT
    return (has & given).sum(1), (has | given).sum(1), has.sum(1) + given.sum(1)
