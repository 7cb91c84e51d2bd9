"""A part of a comparison's report: words, tables and pictures on one question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Picture(NamedTuple):
    """A PNG and what it shows, in words."""

    png: bytes
    shows: str


@dataclass(frozen=True)
class Table:
    """A table of a report; numbers are numbers, and what is not defined is NaN."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


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
