"""Hidden causes, labels and missing modalities by probability table, and the best score anyone can reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from experiments.sources.synthetic.recipes import CAUSES, SHOWN_BY, Recipe

OBSERVED = ("codes", "notes", "images")
"""What may be missing; the graph is there when the codes are."""
CODES_MISSING = 0.03
_STEEPNESS = 1.2  # how much a standard deviation of risk changes the log-odds of a missing note or image


@dataclass(frozen=True)
class Causes:
    """The joint distribution of P patterns of causes and A patterns of availability.

    Shape:
        patterns (P, 5) of 0 and 1; availability (A, 3) of 0 and 1.
    """

    recipe: Recipe
    missing: str
    note_missing: float
    image_missing: float

    @cached_property
    def patterns(self) -> NDArray[np.int8]:
        """All combinations of the causes that occur."""
        rows = list(product((0, 1), repeat=len(CAUSES)))
        if self.recipe.shared:
            rows = [row for row in rows if len(set(row)) == 1]
        return np.array(rows, np.int8)

    @cached_property
    def availability(self) -> NDArray[np.int8]:
        """All combinations of what a patient may have."""
        return np.array(list(product((0, 1), repeat=len(OBSERVED))), np.int8)

    @cached_property
    def risk(self) -> NDArray[np.float64]:
        """P(label = 1 | pattern). Shape: (P,)."""
        signs = 2.0 * self.patterns - 1.0
        weights = np.array([self.recipe.weights.get(cause, 0.0) for cause in CAUSES])
        both = signs[:, CAUSES.index("disease")] * signs[:, CAUSES.index("note")]
        return 1 / (1 + np.exp(-(self.recipe.base + signs @ weights + self.recipe.synergy * both)))

    @cached_property
    def absent(self) -> NDArray[np.float64]:
        """P(missing | pattern) of codes, notes and images. Shape: (P, 3)."""
        rates = np.array([CODES_MISSING, self.note_missing, self.image_missing])
        found = np.tile(rates, (len(self.patterns), 1))
        logit = np.log(self.risk / (1 - self.risk))
        spread = logit.std()
        if self.missing == "severity" and spread > 0:
            severity = (logit - logit.mean()) / spread
            for column in (1, 2):
                found[:, column] = _with_mean(severity, rates[column])
        return found

    @cached_property
    def joint(self) -> NDArray[np.float64]:
        """P(pattern, availability). Shape: (P, A)."""
        there = self.availability[None].astype(float)
        each = there * (1 - self.absent[:, None]) + (1 - there) * self.absent[:, None]
        return np.asarray(each.prod(-1) / len(self.patterns))

    @cached_property
    def held_out(self) -> Causes:
        """The same causes with what held-out patients lack: itself, unless the recipe says otherwise."""
        if self.recipe.missing_held_out is None:
            return self
        return replace(
            self, note_missing=self.recipe.missing_held_out[0], image_missing=self.recipe.missing_held_out[1]
        )

    def score(self, modalities: Sequence[str]) -> NDArray[np.float64]:
        """P(label = 1 | what these modalities show and which of them are there). Shape: (P, A)."""
        found = np.empty_like(self.joint)
        for p, a in self.alike(modalities):
            weight = self.joint[p, a]
            found[p, a] = (weight * self.risk[p]).sum() / max(weight.sum(), 1e-300)
        return found

    def alike(self, modalities: Sequence[str]) -> list[NDArray[np.int64]]:
        """Group patterns and availabilities that these modalities show as the same. Shape: (2, n) each."""
        keys: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        for p, pattern in enumerate(self.patterns):
            for a, there in enumerate(self.availability):
                keys.setdefault(self._seen(pattern, there, modalities), []).append((p, a))
        return [np.array(cells).T for cells in keys.values()]

    def _seen(
        self, pattern: NDArray[np.int8], there: NDArray[np.int8], modalities: Sequence[str]
    ) -> tuple[object, ...]:
        have = dict(zip(OBSERVED, there.tolist(), strict=True))
        have["graph"] = have["codes"]
        causes = {cause for each in modalities if have[each] for cause in SHOWN_BY[each]}
        shown = tuple(pattern[CAUSES.index(cause)] if cause in causes else None for cause in CAUSES)
        return (*(have[each] for each in modalities), *shown)

    def auroc(self, modalities: Sequence[str], counts: NDArray[np.float64] | None = None) -> float:
        """AUROC of the optimal reader, in the population or over counts (P, A, 2) of negatives and positives."""
        if counts is None:
            counts = np.stack([self.joint * (1 - self.risk[:, None]), self.joint * self.risk[:, None]], axis=-1)
        return weighted_auroc(self.score(modalities).ravel(), counts.reshape(-1, 2))

    def draw(
        self, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Draw pattern, availability and label of patients. Shape: three (count,)."""
        cell = rng.choice(self.joint.size, count, p=self.joint.ravel() / self.joint.sum())
        pattern, available = np.divmod(cell, self.joint.shape[1])
        return pattern, available, rng.random(count) < self.risk[pattern]

    def draw_availability(self, pattern: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw what patients of known patterns have. Shape: (N,) -> (N,)."""
        chance = (self.joint / self.joint.sum(1, keepdims=True))[pattern].cumsum(1)
        return np.minimum((rng.random((len(pattern), 1)) > chance).sum(1), chance.shape[1] - 1)


def weighted_auroc(scores: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """AUROC over cells of equal score. Shape: scores (N,), counts (N, 2) of negatives and positives."""
    values, place = np.unique(np.round(scores, 12), return_inverse=True)
    negatives, positives = (np.bincount(place, counts[:, k], len(values)) for k in (0, 1))
    if not negatives.sum() or not positives.sum():
        return float("nan")
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (negatives.sum() * positives.sum()))


def _with_mean(severity: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Logistic in severity, shifted so that its mean is the rate wanted."""
    if rate in (0.0, 1.0):
        return np.full_like(severity, rate)
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        mean = float(np.mean(1 / (1 + np.exp(-(middle + _STEEPNESS * severity)))))
        low, high = (middle, high) if mean < rate else (low, middle)
    return np.asarray(1 / (1 + np.exp(-(low + _STEEPNESS * severity))))


def subsets() -> Iterable[tuple[str, ...]]:
    """Return the single modalities, the pairs and all."""
    names = tuple(SHOWN_BY)
    yield from ((name,) for name in names)
    yield from ((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    yield names
