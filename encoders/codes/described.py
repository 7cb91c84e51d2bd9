"""Codes with the words of their descriptions, so that a code never seen in training still says what it is."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from encoders.limits import at_least
from encoders.notes.words import split_words
from encoders.packed import Packed
from encoders.records import Knowledge, Record

_BUCKETS = 256  # for words of no training code
_FIRST = 1  # 0 is padding


@dataclass(frozen=True)
class DescribedCodes:
    """Numbers the codes of training records and every described code of the dictionary; each has word numbers.

    `words_of` has a row a code number (0 is any other code). Codes that training records do not have are
    known by their words only, and their values are left out, for nobody knows their scale.
    """

    vocabulary: CodeVocabulary
    learned: int
    words: tuple[str, ...]
    words_of: tuple[tuple[int, ...], ...]

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,
        *,
        max_events: int = 256,
        min_count: int = 2,
        bin_hours: float | None = None,
        max_words: int = 12,
        max_codes: int = 20_000,
    ) -> Self:
        """Learn codes and scales from training records, and words from the descriptions of their codes.

        Raises:
            UsageError: an option is out of its range.
        """
        at_least("max_words", max_words, 1)
        at_least("max_codes", max_codes, 0)
        seen = CodeVocabulary.fit(records, knowledge, max_events=max_events, min_count=min_count, bin_hours=bin_hours)
        more = sorted(set(knowledge.descriptions) - set(seen.codes))[:max_codes]
        codes = (*seen.codes, *more)
        both = CodeVocabulary(
            codes, (*seen.center, *(0.0 for _ in more)), (*seen.scale, *(1.0 for _ in more)), max_events, bin_hours
        )
        texts = [describe(code, knowledge.descriptions)[:max_words] for code in codes]
        counts = Counter(word for text in texts[: len(seen.codes)] for word in text)
        words = tuple(sorted(counts))
        number = {word: _FIRST + i for i, word in enumerate(words)}
        hashed = _FIRST + len(words)
        rows = [tuple(number.get(w) or hashed + zlib.crc32(w.encode()) % _BUCKETS for w in text) for text in texts]
        return cls(both, len(seen.codes), words, ((hashed,), *rows))

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that are known, by number from 1."""
        return self.vocabulary.codes

    @property
    def size(self) -> int:
        """How many rows a table of words needs."""
        return _FIRST + len(self.words) + _BUCKETS

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return self.vocabulary.columns()

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Number and standardise a record's events; codes without a learned scale have no value."""
        found = self.vocabulary.encode(record)
        if found is not None:
            found["has_value"] &= found["codes"] <= self.learned
            found["values"] = np.where(found["has_value"], found["values"], np.float32(0))
        return found

    def collate(self, packed: Packed, rows: Tensor) -> CodeInputs:
        """Gather rows (B,) into padded inputs."""
        return self.vocabulary.collate(packed, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        rows = [list(row) for row in self.words_of]
        return {
            "vocabulary": self.vocabulary.to_dict(),
            "learned": self.learned,
            "words": list(self.words),
            "words_of": rows,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        rows = tuple(tuple(int(word) for word in row) for row in data["words_of"])
        return cls(CodeVocabulary.from_dict(data["vocabulary"]), data["learned"], tuple(data["words"]), rows)


def describe(code: str, descriptions: Mapping[str, str]) -> list[str]:
    """Return the words of a code's description; without one, its vocabulary and ever longer pieces of its spelling."""
    if descriptions.get(code):
        return split_words(descriptions[code])
    vocabulary, _, rest = code.lower().partition("//")
    return [
        vocabulary,
        *(rest[:length] for length in range(1, len(rest) + 1) if length in (1, 3) or length == len(rest)),
    ]
