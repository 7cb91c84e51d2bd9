"""Drugs that are given for hidden causes, some pairs of which interact: labels of the recipe `drugs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.sources.synthetic.causes import Causes
from experiments.sources.synthetic.recipes import CAUSES
from experiments.statistics.sets import CUT, jaccard
from experiments.tasks.interactions import interaction_rate

Array = NDArray[Any]
LABEL = "drugs"
_STREAM = 70_011  # keeps these draws apart from those of the records

GIVEN_FOR: Mapping[str, tuple[float, Mapping[str, float]]] = {
    "C03CA01": (-0.2, {"disease": 1.8, "laboratory": 0.5}),  # furosemide
    "C09AA02": (-1.0, {"disease": 1.3, "laboratory": -0.9}),  # enalapril
    "C09AA03": (-0.7, {"disease": 1.5, "laboratory": -0.9}),  # lisinopril
    "C07AB02": (-0.3, {"disease": 1.6}),  # metoprolol
    "C07AB07": (-1.6, {"disease": 1.2}),  # bisoprolol
    "B01AC06": (-0.2, {"note": 1.7}),  # acetylsalicylic acid
    "B01AC04": (-1.1, {"note": 1.4}),  # clopidogrel
    "C10AA01": (-1.3, {"note": 1.2, "disease": 0.4}),  # simvastatin
    "C10AA05": (-0.4, {"note": 1.5, "disease": 0.4}),  # atorvastatin
    "A02BC01": (-1.2, {"note": 0.9}),  # omeprazole
    "A02BC02": (-0.6, {"note": 1.2}),  # pantoprazole
    "N02BE01": (0.2, {"laboratory": 1.4}),  # paracetamol
    "M01AE01": (-0.2, {"laboratory": -1.8}),  # ibuprofen
    "M01AE02": (-1.4, {"laboratory": -1.3}),  # naproxen
    "R03AC02": (-0.9, {"family": 1.5}),  # salbutamol
    "N06AB04": (-0.7, {"family": -1.5}),  # citalopram
    "N06AB06": (-0.7, {"family": -1.5}),  # sertraline
    "A10BA02": (-0.9, {"family": -0.7, "laboratory": -1.2}),  # metformin
    "A10AB05": (-1.2, {"laboratory": 1.4}),  # insulin aspart
    "B01AF02": (-1.7, {"disease": 0.9}),  # apixaban
}
"""Log odds of each drug: a constant, and a weight times +1 or -1 of each cause."""

INTERACTIONS = (
    ("B01AC06", "M01AE01"), ("B01AC06", "M01AE02"), ("B01AC06", "N06AB04"), ("B01AC06", "N06AB06"),
    ("B01AC04", "A02BC01"), ("B01AF02", "B01AC06"), ("B01AF02", "M01AE01"), ("C03CA01", "M01AE01"),
    ("C09AA02", "M01AE01"), ("C09AA03", "M01AE01"), ("C07AB02", "R03AC02"), ("C09AA02", "C09AA03"),
    ("C07AB02", "C07AB07"), ("M01AE01", "N06AB04"), ("M01AE01", "N06AB06"),
)  # fmt: skip
"""Pairs that textbooks warn of, or of one kind twice; a planted set, not a source of advice."""


def names() -> list[str]:
    """Return the drugs in the order of their label files."""
    return sorted(GIVEN_FOR)


def chances(causes: Causes) -> Array:
    """Return the chance of each drug in each pattern of causes. Shape: (P, K)."""
    signs = 2.0 * causes.patterns - 1.0
    weights = np.array([[GIVEN_FOR[name][1].get(cause, 0.0) for name in names()] for cause in CAUSES])
    return np.asarray(1 / (1 + np.exp(-(np.array([GIVEN_FOR[name][0] for name in names()]) + signs @ weights))))


def draw(causes: Causes, pattern: NDArray[np.int64], seed: int, shard: int) -> NDArray[np.bool_]:
    """Draw who is given which drug. Shape: (N,) -> (N, K)."""
    rng = np.random.default_rng([_STREAM, seed, shard])
    return rng.random((len(pattern), len(GIVEN_FOR))) < chances(causes)[pattern]


def matrix() -> NDArray[np.bool_]:
    """Return which drugs interact. Shape: (K, K)."""
    place = {name: number for number, name in enumerate(names())}
    found = np.zeros((len(place), len(place)), bool)
    for first, second in INTERACTIONS:
        found[place[first], place[second]] = found[place[second], place[first]] = True
    return found


def truth(causes: Causes, pattern: NDArray[np.int64], available: NDArray[np.int64], given: Array) -> dict[str, Any]:
    """Say how often what is given interacts, and what who knows every chance would predict from what patients have.

    Shape:
        pattern and available (N,), given (N, K).
    """
    best = _expected(causes)[pattern, available]
    return {
        "interaction_rate": _rounded(interaction_rate(given, matrix())),
        "best_jaccard": _rounded(float(jaccard(given, best).mean())) if len(given) else None,
        "best_interaction_rate": _rounded(interaction_rate(best >= CUT, matrix())),
    }


def _expected(causes: Causes) -> Array:
    """Return the chance of each drug given what is seen of a patient. Shape: (P, A, K)."""
    chance = chances(causes)
    everything = ("codes", "notes", "graph")  # images show nothing that a drug is given for
    found = np.empty((*causes.joint.shape, chance.shape[1]))
    for cells in causes.alike(everything):
        weight = causes.joint[tuple(cells)]
        found[tuple(cells)] = (weight[:, None] * chance[cells[0]]).sum(0) / max(weight.sum(), 1e-300)
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
