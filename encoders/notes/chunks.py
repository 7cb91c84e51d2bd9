"""Notes cut into chunks of words, each with its note's kind and time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.limits import at_least
from encoders.notes.words import Words
from encoders.packed import Packed
from encoders.records import Knowledge, Note, Record


class ChunkInputs(NamedTuple):
    """Chunks of B patients' notes, oldest note first; a chunk holds up to L words, 0 where it has fewer.

    Shape:
        ids (B, T, L) int64; days (B, T) float before the prediction; kinds (B, T) int64, 0 for a kind that training
        notes do not have; mask (B, T) bool.
    """

    ids: Tensor
    days: Tensor
    kinds: Tensor
    mask: Tensor


@dataclass(frozen=True)
class NoteChunks:
    """Numbers the words of notes as `Words` does, in chunks that never span two notes."""

    vocabulary: Words
    chunk_words: int = 64
    max_chunks: int = 32

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,
        *,
        chunk_words: int = 64,
        max_chunks: int = 32,
        vocabulary: int = 8192,
        min_count: int = 3,
    ) -> Self:
        """Learn words and kinds from training notes.

        Raises:
            UsageError: a chunk has no room for a word beside the mark of its kind, or there is no room for a chunk.
        """
        at_least("chunk_words", chunk_words, 2)
        at_least("max_chunks", max_chunks, 1)
        words = Words.fit(records, knowledge, vocabulary=vocabulary, min_count=min_count)
        return cls(words, chunk_words, max_chunks)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {
            "ids": (np.dtype(np.int32), (self.chunk_words,)),
            "days": (np.dtype(np.float32), ()),
            "kinds": (np.dtype(np.int32), ()),
        }

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Cut all notes; where there are too many chunks, the most recent notes are kept whole first."""
        kept: list[tuple[list[list[int]], Note]] = []
        room = self.max_chunks
        for note in reversed(record.notes):
            if not room:
                break
            chunks = self._cut(note)[:room]
            room -= len(chunks)
            kept.append((chunks, note))
        if not kept:
            return None
        kept.reverse()
        rows = [chunk for chunks, _ in kept for chunk in chunks]
        ids = np.zeros((len(rows), self.chunk_words), np.int32)
        for place, chunk in enumerate(rows):
            ids[place, : len(chunk)] = chunk
        days = [note.days for chunks, note in kept for _ in chunks]
        kinds = [self.kind(note) for chunks, note in kept for _ in chunks]
        return {"ids": ids, "days": np.array(days, np.float32), "kinds": np.array(kinds, np.int32)}

    def kind(self, note: Note) -> int:
        """Return the number of a note's kind, 0 for one that training notes do not have."""
        known = self.vocabulary.kinds
        return known.index(note.kind) + 1 if note.kind in known else 0

    def _cut(self, note: Note) -> list[list[int]]:
        """Cut a note; its first chunk opens with the mark of its kind, so that even an empty note is one chunk."""
        words = list(self.vocabulary.read(note))
        return [words[start : start + self.chunk_words] for start in range(0, len(words), self.chunk_words)]

    def collate(self, packed: Packed, rows: Tensor) -> ChunkInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return ChunkInputs(columns["ids"].long(), columns["days"], columns["kinds"].long(), mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "vocabulary": self.vocabulary.to_dict(),
            "chunk_words": self.chunk_words,
            "max_chunks": self.max_chunks,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(Words.from_dict(data["vocabulary"]), data["chunk_words"], data["max_chunks"])
