"""Weighted word counts of notes in a few dimensions: TF-IDF and a truncated singular value decomposition."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.notes.words import most_frequent, split_words
from encoders.packed import Packed
from encoders.records import Knowledge, Note, Record


class TermInputs(NamedTuple):
    """The components of B patients' notes.

    Shape:
        values (B, T, F) float, T = 1; mask (B, T) bool.
    """

    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Terms:
    """Counts words, weights them by how rare they are, and projects them on the directions in which patients differ.

    Each component is divided by its spread, so that a linear layer after it can use them all. A patient whose words are
    all unknown has zeros. What is learned is rounded to six digits before it is used, so that a saved copy agrees.
    """

    words: tuple[str, ...]
    weights: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    log_counts: bool = True

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        vocabulary: int = 4096,
        min_count: int = 3,
        components: int = 64,
        log_counts: bool = True,
    ) -> Self:
        """Learn words, weights and directions from the training notes; `log_counts` counts a word 1 + log(n) times.

        Raises:
            UsageError: `vocabulary` is negative, or there are no components.
        """
        at_least("vocabulary", vocabulary, 0)
        at_least("components", components, 1)
        seen, counts = _count(records)
        patients = np.asarray((counts > 0).sum(0)).ravel()
        words = most_frequent(dict(zip(seen, patients.tolist(), strict=True)), vocabulary, min_count)
        if not words:
            return cls((), (), ((),), log_counts)
        from sklearn.feature_extraction.text import TfidfTransformer

        transform = TfidfTransformer(sublinear_tf=log_counts)
        weighted = transform.fit_transform(counts[:, [seen[word] for word in words]])
        directions = _directions(weighted, components)
        return cls(words, _rounded(transform.idf_), tuple(_rounded(row) for row in directions), log_counts)

    @property
    def size(self) -> int:
        """How many components a patient has."""
        return len(self.directions)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _learned(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.weights), np.array(self.directions)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"values": (np.dtype(np.float32), (self.size,))}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Weigh and project the words of all notes of a patient."""
        if not record.notes:
            return None
        weights, directions = self._learned
        found = directions @ self.weigh(record.notes) if len(weights) else np.zeros(self.size)
        return {"values": found.astype(np.float32)[None]}

    def weigh(self, notes: Iterable[Note]) -> NDArray[np.float64]:
        """Return the TF-IDF weight of each known word, of length one together. Shape: -> (words,)."""
        vector = np.zeros(len(self.words))
        for word, count in _words(notes).items():
            if word in self._number:
                vector[self._number[word]] = 1 + np.log(count) if self.log_counts else count
        vector *= self._learned[0]
        length = np.linalg.norm(vector)
        return vector / length if length else vector

    def collate(self, packed: Packed, rows: Tensor) -> TermInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return TermInputs(columns["values"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "words": list(self.words),
            "weights": list(self.weights),
            "directions": [list(row) for row in self.directions],
            "log_counts": self.log_counts,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        directions = tuple(tuple(row) for row in data["directions"])
        return cls(tuple(data["words"]), tuple(data["weights"]), directions, data["log_counts"])


def _words(notes: Iterable[Note]) -> Counter[str]:
    return Counter(word for note in notes for word in split_words(note.text))


def _count(records: Iterable[Record]) -> tuple[dict[str, int], Any]:
    """Return the column of each word and a sparse table of counts, a row a patient who has notes."""
    from scipy.sparse import csr_array

    column: dict[str, int] = {}
    counts, places, starts = array("d"), array("q"), array("q", [0])  # a third of what lists of numbers take
    for record in records:
        if record.notes:
            found = _words(record.notes)
            places.extend(column.setdefault(word, len(column)) for word in found)
            counts.extend(found.values())
            starts.append(len(places))
    return column, csr_array((counts, places, starts), shape=(len(starts) - 1, len(column)))


def _directions(weighted: Any, components: int) -> NDArray[np.float64]:
    """Return the main directions of a table, each over the spread of the patients along it. Shape: (F, words)."""
    from sklearn.decomposition import TruncatedSVD

    most = min(components, *weighted.shape)
    one = weighted.shape[1] == 1
    with np.errstate(invalid="ignore"):  # of patients who are all alike it divides 0 by 0
        found = np.ones((1, 1)) if one else TruncatedSVD(most, random_state=0).fit(weighted).components_
    spread = np.std(weighted @ found.T, axis=0)
    differ = spread > 1e-6  # any other direction is made of rounding errors
    return found[differ] / spread[differ, None] if differ.any() else np.zeros((1, len(found.T)))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())
