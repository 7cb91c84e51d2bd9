"""What says how little a record fits: the diffusion model, an isolation forest, and the furthest single number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest

from experiments.generative.diffusion import Diffusion
from experiments.generative.scale import Scale
from experiments.generative.tails import Tail, fit_tail

Array = NDArray[Any]
_BOUND = 20.0  # normal scores further out say no more
_STRAY = 4.0
_LEAST = 20  # training records with a modality from which its distances can be learned
_TREES = 300


class Odd(NamedTuple):
    """How little each record fits, and what about it, by number. Shape: score (N,); what (N,) int64 into `names`."""

    score: Array
    what: Array
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scorer:
    """Distances of records by what is looked at, made comparable by how they fall off among training records."""

    names: tuple[str, ...]
    kinds: Array
    distances: Callable[[Array], Array]
    tails: tuple[Tail, ...]

    def __call__(self, cells: Array) -> Odd:
        """Score records: the greatest surprise, less what the greatest of so many of its kind comes to by chance.

        Shape:
            cells (N, C) -> score (N,).
        """
        found = self.distances(cells)
        surprise = np.stack([tail.surprise(each) for tail, each in zip(self.tails, found.T, strict=True)], axis=1)
        surprise -= np.log(np.bincount(self.kinds))[self.kinds]
        what = surprise.argmax(1)
        return Odd(surprise[np.arange(len(cells)), what], what, self.names)


def _scorer(named: Mapping[str, int], distances: Callable[[Array], Array], training: Array) -> Scorer:
    tails = tuple(fit_tail(each) for each in distances(training).T)
    return Scorer(tuple(named), np.array(list(named.values())), distances, tails)


def forest_scorer(training: Array, seed: int) -> Scorer:
    """Fit an isolation forest. Shape: training (N, C).

    Reference:
        Liu, Ting, Zhou, Isolation Forest, 2008.
    """
    forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(_bounded(training))
    return _scorer({"the whole record": 0}, lambda cells: -forest.score_samples(_bounded(cells))[:, None], training)


def furthest_scorer(scale: Scale, training: Array) -> Scorer:
    """Look at each number alone, by its distance from the middle of its column. Shape: training (N, C)."""
    groups = _numbers(scale)
    return _scorer(dict.fromkeys(groups, 0), partial(_furthest, groups), training)


def diffusion_scorer(diffusion: Diffusion, scale: Scale, training: Array) -> Scorer:
    """Look at each measurement given the rest of the record, and at notes and images given what else there is.

    A measurement's distance is the largest difference of its numbers from what is expected. That of a modality is how
    much worse it fits the rest than it fits records at large, so a rare note of the right patient is not odd.

    Shape:
        training (N, C).
    """
    groups, parts = _numbers(scale), _modalities(scale)
    blocks = {name: _fit_block(diffusion, scale, places, training) for name, places in parts.items()}
    known = {name: block for name, block in blocks.items() if block is not None}

    def distances(cells: Array) -> Array:
        single = [_unexpected(diffusion, scale, name, places, cells) for name, places in groups.items()]
        return np.stack([*single, *(block(cells) for block in known.values())], axis=1)

    return _scorer(dict.fromkeys(groups, 0) | dict.fromkeys(known, 1), distances, training)


def _bounded(cells: Array) -> Array:
    return cells.clip(-_BOUND, _BOUND)


def _numbers(scale: Scale) -> dict[str, list[int]]:
    """Return the cells of each measurement's numbers."""
    found: dict[str, list[int]] = {}
    for place, column in enumerate(scale.columns):
        if column.part == "codes" and not column.flag:
            found.setdefault(column.group, []).append(place)
    return found


def _modalities(scale: Scale) -> dict[str, list[int]]:
    """Return the cells of notes and of images, where there are other modalities that they may agree with."""
    parts = {column.part for column in scale.columns} - {"label"}
    found: dict[str, list[int]] = {}
    for place, column in enumerate(scale.columns):
        if column.part in ("notes", "images") and len(parts) > 1:
            found.setdefault(column.part, []).append(place)
    return found


def _there(scale: Scale, group: str, cells: Array) -> NDArray[np.bool_]:
    """Return which rows have a group. Shape: (N, C) -> (N,)."""
    if group not in scale.lacking:
        return np.ones(len(cells), bool)
    return np.asarray(cells[:, len(scale.columns) + scale.lacking.index(group)] > 0)


def _residual(diffusion: Diffusion, places: list[int], cells: Array) -> Array:
    """Return how far cells are from what is expected of them given all others. Shape: (N, C) -> (N, places).

    A number out of every training patient's way is not given: it is likely wrong, and must not make others look odd.
    """
    given = np.abs(cells) <= _STRAY
    given[:, places] = False
    return np.asarray(_bounded(cells)[:, places] - diffusion.expect(cells, given)[:, places])


def _unexpected(diffusion: Diffusion, scale: Scale, group: str, places: list[int], cells: Array) -> Array:
    there = _there(scale, group, cells)
    found = np.full(len(cells), np.nan)
    if there.any():
        found[there] = np.abs(_residual(diffusion, places, cells[there])).max(1)
    return found


def _furthest(groups: Mapping[str, list[int]], cells: Array) -> Array:
    """Return the largest distance of each measurement's numbers; a missing one is in the middle."""
    return np.stack([np.abs(_bounded(cells)[:, places]).max(1) for places in groups.values()], axis=1)


def _fit_block(diffusion: Diffusion, scale: Scale, places: list[int], training: Array) -> Any:
    """Learn how a modality varies at large and around what the rest lets expect; None where few have it."""
    group = scale.columns[places[0]].group
    mine = training[_there(scale, group, training)]
    if len(mine) < _LEAST:
        return None
    around = LedoitWolf().fit(_residual(diffusion, places, mine))
    at_large = LedoitWolf().fit(_bounded(mine)[:, places])

    def distance(cells: Array) -> Array:
        there = _there(scale, group, cells)
        found = np.full(len(cells), np.nan)
        if there.any():
            left = around.mahalanobis(_residual(diffusion, places, cells[there]))
            found[there] = left - at_large.mahalanobis(_bounded(cells[there])[:, places])
        return found

    return distance
