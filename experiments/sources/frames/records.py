"""The records in the rows of a DataFrame; an empty cell is a missing modality."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.records import CodeEvents, Image, Note, Record
from experiments.data.reader import BIRTH, NOTE
from fusion.component import UsageError

_Event = tuple[str, float, float]


def frame_records(frame: Any, columns: Mapping[str, Sequence[str]]) -> list[Record]:
    """Return the record of each row of a DataFrame (polars or pandas).

    Cells of `codes` hold one code or a list of codes, of (code, days before) or of (code, days before, value); `notes`
    a text or a list of texts or (text, days before); `images` a path or a list of paths or (path, days before).
    Mappings with `code`, `text` or `path`, `days` and `value` do as well. `measurements` hold numbers: events called as
    their column, at the time of prediction.

    Raises:
        UsageError: a cell holds something else; the message has its row and column, never what stands there.
    """
    cells = {kind: {name: frame[name].to_list() for name in names} for kind, names in columns.items()}
    numbers = {name: _numbers(name, values) for name, values in cells.get("measurements", {}).items()}
    return [
        Record(
            _events(cells.get("codes", {}), numbers, row),
            tuple(Note(text, days, name) for name, text, days, _ in _things(cells.get("notes", {}), row, "text")),
            tuple(_images(cells.get("images", {}), row)),
        )
        for row in range(len(frame))
    ]


def _events(codes: Mapping[str, Sequence[Any]], numbers: Mapping[str, NDArray[np.float64]], row: int) -> CodeEvents:
    found: list[_Event] = []
    for name, code, days, value in _things(codes, row, "code"):
        if code == BIRTH or code.startswith(NOTE):
            raise _wrong(row, name, f"codes may not be {BIRTH} nor begin with {NOTE}")
        found.append((code, days, value))
    found += [(name, 0.0, float(values[row])) for name, values in numbers.items() if not math.isnan(values[row])]
    return CodeEvents(
        tuple(code for code, _, _ in found),
        np.array([days for _, days, _ in found], np.float32),
        np.array([value for _, _, value in found], np.float32),
    )


def _images(images: Mapping[str, Sequence[Any]], row: int) -> Iterator[Image]:
    for name, path, days, _ in _things(images, row, "path"):
        if not Path(path).is_file():
            raise _wrong(row, name, "no such image file")
        yield Image(Path(path).absolute(), days, "")


def _things(columns: Mapping[str, Sequence[Any]], row: int, what: str) -> list[tuple[str, str, float, float]]:
    """Return column, text, days before and value of what is in the cells of a row, oldest first."""
    found = [
        (name, *_thing(each, row, name, what))
        for name, cells in columns.items()
        if not is_missing(cells[row])
        for each in _listed(cells[row])
        if not is_missing(each)
    ]
    return sorted((each for each in found if each[1].strip()), key=lambda each: -each[2])


def _listed(cell: Any) -> Sequence[Any]:
    return [cell] if isinstance(cell, str | Path | Mapping) or not hasattr(cell, "__iter__") else list(cell)


def _thing(given: Any, row: int, name: str, what: str) -> tuple[str, float, float]:
    if isinstance(given, Mapping):
        given = (given.get(what), given.get("days"), given.get("value"))
    parts = [given] if isinstance(given, str | Path) or not hasattr(given, "__iter__") else list(given)
    text, days, value = [*parts, None, None, None][:3]
    longest = 3 if what == "code" else 2
    right = isinstance(text, str) or (what == "path" and isinstance(text, Path))
    if not right or any(not is_missing(each) for each in parts[longest:]):
        known = f"({what}, days before, value)" if what == "code" else f"({what}, days before)"
        raise _wrong(row, name, f"expected a {what}, or a list of {what}s or of {known}; got {type(given).__name__}")
    before = 0.0 if is_missing(days) else _number(days, row, name)
    if not before >= 0 or math.isinf(before):
        raise _wrong(row, name, "days before the prediction must be 0 or more: nothing from after it may be known")
    return str(text), before, math.nan if is_missing(value) else _number(value, row, name)


def _number(value: Any, row: int, name: str) -> float:
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise _wrong(row, name, f"days and values must be numbers; got {type(value).__name__}")
    return float(value)


def _numbers(name: str, cells: Sequence[Any]) -> NDArray[np.float64]:
    for row, cell in enumerate(cells):
        if not is_missing(cell) and (isinstance(cell, str) or not hasattr(cell, "__float__")):
            hint = "name the column in `columns` under codes, notes or images"
            raise _wrong(row, name, f"a measurement must be a number; got {type(cell).__name__} ({hint}?)")
    found = np.array([math.nan if is_missing(cell) else float(cell) for cell in cells], np.float64)
    if np.isinf(found).any():
        raise _wrong(int(np.isinf(found).argmax()), name, "a measurement must be finite, or the cell empty")
    return found


def is_missing(cell: Any) -> bool:
    """Tell whether a cell is empty: None, NaN, or pandas' NA or NaT."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def _wrong(row: int, name: str, what: str) -> UsageError:
    return UsageError(f"row {row}: column '{name}': {what}")
