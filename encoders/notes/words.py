"""Words of notes: a vocabulary from training notes, with hashed places for words it does not hold."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import Knowledge, Note, Record

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+(?:\.\d+)?|[%<>/+-]")
_BUCKETS = 512  # for words not in the vocabulary
_START = 1  # opens a note; 0 is padding


class NoteInputs(NamedTuple):
    """Words of B patients' notes, oldest note first, each note opened by a mark of its own.

    Shape:
        ids (B, T) int64; days (B, T) float before the prediction; mask (B, T) bool.
    """

    ids: Tensor
    days: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Words:
    """Numbers words: 0 padding, 1 start of a note, then kinds of notes, the vocabulary, and buckets for the rest."""

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    max_tokens: int = 256

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,  # noqa: ARG003 - part of the protocol
        *,
        max_tokens: int = 256,
        vocabulary: int = 8192,
        min_count: int = 3,
    ) -> Self:
        """Keep the most frequent words of the training notes, those in at least `min_count` records.

        Raises:
            UsageError: `max_tokens` has no room for a word, or `vocabulary` is negative.
        """
        at_least("max_tokens", max_tokens, 2)
        at_least("vocabulary", vocabulary, 0)
        counts: Counter[str] = Counter()
        kinds: set[str] = set()
        for record in records:
            found: set[str] = set()
            for note in record.notes:
                found.update(split_words(note.text))
                kinds.add(note.kind)
            counts.update(found)
        return cls(most_frequent(counts, vocabulary, min_count), tuple(sorted(kinds)), max_tokens)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each known word."""
        start = _START + 1 + len(self.kinds)
        return {word: start + i for i, word in enumerate(self.words)}

    @property
    def size(self) -> int:
        """How many rows an embedding table needs."""
        return _START + 1 + len(self.kinds) + len(self.words) + _BUCKETS

    @property
    def known(self) -> int:
        """The number from which words share buckets, because the vocabulary does not have them."""
        return self.size - _BUCKETS

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"ids": (np.dtype(np.int32), ()), "days": (np.dtype(np.float32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Number the words of all notes; where there are too many, the most recent notes are kept whole first."""
        ids: list[int] = []
        days: list[float] = []
        for note in reversed(record.notes):
            room = self.max_tokens - len(ids)
            if room < 2:
                break
            mine = list(self.read(note))[:room]
            ids[:0] = mine
            days[:0] = [note.days] * len(mine)
        if not ids:
            return None
        return {"ids": np.array(ids, np.int32), "days": np.array(days, np.float32)}

    def read(self, note: Note) -> Iterator[int]:
        """Number a note: the mark of its kind, then its words."""
        yield self.mark(note.kind)
        yield from map(self.place, split_words(note.text))

    def mark(self, kind: str) -> int:
        """Return what opens a note of a kind; kinds that training notes do not have share one mark."""
        return _START + 1 + self.kinds.index(kind) if kind in self.kinds else _START

    def place(self, word: str) -> int:
        """Return the number of a word, or the bucket it shares with others where the vocabulary lacks it."""
        # crc32, because Python's own hash of a string differs from process to process
        return self.number.get(word) or self.size - _BUCKETS + zlib.crc32(word.encode()) % _BUCKETS

    def collate(self, packed: Packed, rows: Tensor) -> NoteInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return NoteInputs(columns["ids"].long(), columns["days"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"words": list(self.words), "kinds": list(self.kinds), "max_tokens": self.max_tokens}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(tuple(data["words"]), tuple(data["kinds"]), data["max_tokens"])


def most_frequent(counts: Mapping[str, int], most: int, min_count: int) -> tuple[str, ...]:
    """Return the words counted at least `min_count` times, the most frequent ones, first those counted most.

    Examples:
        >>> most_frequent({"cough": 2, "fever": 5, "chill": 2, "zeal": 1}, 2, 2)
        ('fever', 'chill')
    """
    frequent = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    return tuple(word for _, word in frequent[:most])


def split_words(text: str) -> list[str]:
    """Return lower-case words, numbers and the signs that carry meaning in notes."""
    return _WORD.findall(text.lower())
