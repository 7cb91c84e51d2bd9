"""Cells that a network reads: numbers by their normal scores, flags as -1 and 1, and a flag for what may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from experiments.generative.vectors import Column, Vectors

Array = NDArray[Any]
_KNOTS = np.linspace(0.01, 0.99, 99)  # beyond these quantiles single patients would decide
_DIGITS = 9  # finer than anything is measured
FURTHEST = 3.0  # normal score of the most extreme number that is ever made up


class Curve(NamedTuple):
    """A number's normal score as a piecewise linear curve with straight ends.

    Shape:
        numbers and scores (K,), both increasing; ends: change of the number per unit of score below and above.
    """

    numbers: Array
    scores: Array
    ends: tuple[float, float]
    positive: bool

    def forward(self, values: Array) -> Array:
        """Return the normal scores of numbers; not bounded. Shape: (N,) -> (N,)."""
        found = np.interp(values, self.numbers, self.scores)
        below, above = np.minimum(values - self.numbers[0], 0), np.maximum(values - self.numbers[-1], 0)
        return np.asarray(found + below / self.ends[0] + above / self.ends[1])

    def backward(self, scores: Array) -> Array:
        """Return the numbers of normal scores; nothing negative where nobody's was. Shape: (N,) -> (N,)."""
        kept = scores.clip(-FURTHEST, FURTHEST)
        found = np.interp(kept, self.scores, self.numbers)
        below, above = np.minimum(kept - self.scores[0], 0), np.maximum(kept - self.scores[-1], 0)
        found = found + below * self.ends[0] + above * self.ends[1]
        return np.asarray(found.clip(0) if self.positive else found)


@dataclass(frozen=True)
class Scale:
    """How vectors become cells: first their columns, then a flag for each group that some training patients lack."""

    columns: tuple[Column, ...]
    curves: tuple[Curve | None, ...]
    lacking: tuple[str, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each cell."""
        return (*(column.group for column in self.columns), *self.lacking)

    @property
    def parts(self) -> tuple[str, ...]:
        """The modality of each cell."""
        part = {column.group: column.part for column in self.columns}
        return tuple(part[group] for group in self.groups)

    def cells(self, vectors: Vectors) -> Array:
        """Return the cells of vectors; what is missing is 0. Shape: (N, D) -> (N, C)."""
        found = [
            2 * values - 1 if curve is None else np.nan_to_num(curve.forward(values), nan=0.0)
            for curve, values in zip(self.curves, finite(vectors.values).T, strict=True)
        ]
        there = self.present(vectors)
        return np.stack([*found, *(2.0 * there[group] - 1 for group in self.lacking)], axis=1)

    def present(self, vectors: Vectors) -> dict[str, NDArray[np.bool_]]:
        """Return who has each group. Shape: (N,) each."""
        whole = np.isfinite(vectors.values)
        first = {column.group: place for place, column in reversed(list(enumerate(self.columns)))}
        return {group: whole[:, place] for group, place in first.items()}

    def vectors(self, cells: Array) -> Vectors:
        """Return the vectors that cells stand for. Shape: (N, C) -> (N, D)."""
        width = len(self.columns)
        absent = {group: cells[:, width + i] < 0 for i, group in enumerate(self.lacking)}
        found = np.empty((len(cells), width))
        for place, (column, curve) in enumerate(zip(self.columns, self.curves, strict=True)):
            mine = cells[:, place]
            found[:, place] = mine > 0 if curve is None else curve.backward(mine)
            if column.group in absent:
                found[absent[column.group], place] = np.nan
        return Vectors(self.columns, found)


def finite(values: Array) -> Array:
    """Return values with NaN for what is infinite."""
    return np.where(np.isfinite(values), values, np.nan)


def fit_scale(vectors: Vectors) -> Scale:
    """Learn curves of numbers and what is missing from training vectors."""
    curves = [
        None if column.flag else _curve(values[np.isfinite(values)])
        for column, values in zip(vectors.columns, vectors.values.T, strict=True)
    ]
    first = {column.group: place for place, column in reversed(list(enumerate(vectors.columns)))}
    lacking = [group for group, place in first.items() if not np.isfinite(vectors.values[:, place]).all()]
    order: Sequence[str] = sorted(lacking, key=lambda group: first[group])
    return Scale(vectors.columns, tuple(curves), tuple(order))


def _curve(values: Array) -> Curve:
    """Fit a number's curve; equal quantiles share their mean score, a constant has a slope of one."""
    if not len(values):
        values = np.zeros(1)
    numbers, place = np.unique(np.quantile(values, _KNOTS).round(_DIGITS), return_inverse=True)
    scores = np.bincount(place, ndtri(_KNOTS)) / np.bincount(place)
    middle = np.median(values)
    whole = (numbers[-1] - numbers[0]) / (scores[-1] - scores[0]) if len(numbers) > 1 else 1.0
    below = (middle - numbers[0]) / -scores[0] if middle > numbers[0] and scores[0] < 0 else whole
    above = (numbers[-1] - middle) / scores[-1] if numbers[-1] > middle and scores[-1] > 0 else whole
    return Curve(numbers, scores, (float(below), float(above)), bool(values.min() >= 0))
