"""A part of a comparison's report: words, tables and pictures on one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from experiments.statistics.intervals import Interval


class Picture(NamedTuple):
    """A PNG and what it shows, in words."""

    png: bytes
    shows: str


@dataclass(frozen=True)
class Table:
    """A table of a report; numbers are numbers or intervals, and what is not defined is NaN."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def spread(self) -> tuple[list[str], list[list[Any]]]:
        """Return heads and rows in which an interval has three columns: its value, its low and its high end."""
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in range(len(self.heads))]
        ends = [("", " low", " high") if each else ("",) for each in wide]
        heads = [head + end for head, mine in zip(self.heads, ends, strict=True) for end in mine]
        rows = [
            [value for cell, three in zip(row, wide, strict=True) for value in (_three(cell) if three else [cell])]
            for row in self.rows
        ]
        return heads, rows


def _three(cell: Any) -> list[Any]:
    return [cell.value, cell.low, cell.high] if isinstance(cell, Interval) else [cell, float("nan"), float("nan")]


@dataclass(frozen=True)
class Section:
    """One question a comparison answers.

    Args:
        title: the question.
        words: what was found, in a sentence or two, and how to read it.
        tables: by the name that their CSV file has.
        pictures: by the name that their PNG file has.
    """

    title: str
    words: Sequence[str]
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
