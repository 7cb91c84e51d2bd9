"""Attributions of many patients put together by item or edge; nothing of fewer than ten patients comes out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST = 10
"""Patients that an attribution must be of to be told."""


Name = str | tuple[str, ...]
"""What an item is called, in as many cells as a table has for it."""


class Attributed(NamedTuple):
    """A code, word, node or edge, how many patients have it, by how much it moves their logits in the mean.

    `size` is the mean without signs; `share` the part of all such movement that is this item's.
    """

    name: Name
    patients: int
    mean: float
    size: float
    share: float


@dataclass
class Tally:
    """Sums of attributions by item; an item that a patient has many times counts with all of them together."""

    total: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    size: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    rows: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    people: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, items: Array, real: Array, found: Array, subjects: Sequence[int]) -> None:
        """Count the attributions of some patients. Shape: items, real and found (B, ...)."""
        for subject, numbers, there, values in zip(subjects, items, real, found, strict=True):
            unique, place = np.unique(numbers[there], return_inverse=True)
            sums = np.bincount(place, values[there], len(unique))
            for item, value in zip(unique.tolist(), sums.tolist(), strict=True):
                self.total[item] += value
                self.size[item] += abs(value)
                self.rows[item] += 1
                self.people[item].add(subject)

    def joined(self, groups: Mapping[int, Collection[int]]) -> Tally:
        """Return another in which the items of each group count as one, of the group's number."""
        number = {item: group for group, items in groups.items() for item in items}
        made = Tally()
        for item, people in self.people.items():
            place = number.get(item, item)
            made.total[place] += self.total[item]
            made.size[place] += self.size[item]
            made.rows[place] += self.rows[item]
            made.people[place] |= people
        return made

    def table(self, names: Mapping[int, Name]) -> tuple[list[Attributed], int]:
        """Return what has a name and enough patients, the largest sizes first, and how many others there are."""
        whole = sum(self.size.values()) or 1.0
        found = [
            Attributed(
                names[item],
                len(people),
                self.total[item] / rows,
                self.size[item] / rows,
                self.size[item] / whole,
            )
            for item, people in self.people.items()
            if item in names and len(people) >= LEAST and (rows := self.rows[item])
        ]
        return sorted(found, key=lambda each: (-each.size, each.name)), len(self.people) - len(found)


@dataclass
class Saliency:
    """The mean of what pixels of images mean for the prediction, over patients."""

    total: Array | None = None
    images: int = 0
    people: set[int] = field(default_factory=set)

    def add(self, real: Array, found: Array, subjects: Sequence[int]) -> None:
        """Count images. Shape: real (B, K) bool, found (B, K, C, H, W)."""
        maps = np.abs(found.sum(2))[real]
        self.total = maps.sum(0) + (0 if self.total is None else self.total)
        self.images += len(maps)
        self.people.update(subjects)

    def mean(self) -> Array | None:
        """Return the mean size of attributions; None of too few patients. Shape: (H, W)."""
        return None if self.total is None or len(self.people) < LEAST else self.total / self.images


def names_of(preprocessor: Any) -> dict[int, Name]:
    """Return what the numbers of items stand for; rare words and unknown codes have no name of their own."""
    if hasattr(preprocessor, "codes"):
        return dict(enumerate(preprocessor.codes, start=1))
    return {number: name for name, number in getattr(preprocessor, "number", {}).items()}
