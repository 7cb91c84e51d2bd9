"""What a vector can be made of: a record's values, codes with what they are kinds of, its text and a small picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoders.images.reading import read_pixels
from encoders.records import Knowledge, Record, UnreadableImage

SIDE = 8  # pixels of the small picture


class Facts(NamedTuple):
    """One record: last, lowest and highest value of each code with values, all codes, text, picture.

    Shape:
        picture (SIDE * SIDE,) float64; text and picture are None where the record has none.
    """

    numbers: Mapping[str, tuple[float, float, float]]
    codes: frozenset[str]
    text: str | None
    picture: NDArray[np.float64] | None


def ancestors_of(knowledge: Knowledge) -> dict[str, frozenset[str]]:
    """Return for each code with parents all that it is a kind of; a circle of parents ends where it began."""
    parents: dict[str, set[str]] = {}
    for edge in knowledge.edges:
        if edge.relation == "is_a":
            parents.setdefault(edge.head, set()).add(edge.tail)
    found = {}
    for code in parents:
        waiting, above = list(parents[code]), set[str]()
        while waiting:
            each = waiting.pop()
            if each not in above:
                above.add(each)
                waiting += parents.get(each, ())
        found[code] = frozenset(above - {code})
    return found


def facts_of(record: Record, ancestors: Mapping[str, frozenset[str]]) -> Facts:
    """Sum a record up; values that are not finite are as if they were not there, as is an unreadable image."""
    numbers: dict[str, tuple[float, float, float]] = {}
    for code, value in zip(record.codes.codes, record.codes.values.tolist(), strict=True):  # oldest first
        if np.isfinite(value):
            _, low, high = numbers.get(code, (value, value, value))
            numbers[code] = (value, min(low, value), max(high, value))
    mine = set(record.codes.codes)
    codes = mine.union(*(ancestors.get(code, ()) for code in mine))
    text = "\n".join(note.text for note in record.notes) or None
    return Facts(numbers, frozenset(codes), text, _picture(record))


def _picture(record: Record) -> Any:
    if not record.images:
        return None
    try:
        pixels = read_pixels(record.images[-1].path, SIDE, 1)
    except UnreadableImage:
        return None
    return np.asarray(pixels, np.float64).ravel()
