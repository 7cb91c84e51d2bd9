"""Rows that are mappings, whatever library made them: as a DataFrame with a patient a row, and from one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from encoders.records import Record
from experiments.sources.frames.columns import KINDS, Columns, columns_by_modality
from experiments.sources.frames.records import frame_records, is_missing
from fusion.component import UsageError, unknown

_EVENT = pl.List(pl.Struct({"code": pl.String, "days": pl.Float64, "value": pl.Float64}))
_NOTE = pl.List(pl.Struct({"text": pl.String, "days": pl.Float64}))
_IMAGE = pl.List(pl.Struct({"path": pl.String, "days": pl.Float64}))


class Samples(NamedTuple):
    """A DataFrame (`codes`, `notes`, `images`, measurements), its labels, and whose each row is, if that is said.

    Labels are None where no label was named; `patients` are the `groups` of `fit`.
    """

    X: pl.DataFrame
    y: NDArray[Any] | None
    patients: NDArray[Any] | None


class _Column(list[Any]):
    to_list = list.copy


class _Table(dict[str, _Column]):
    """Columns that are gone through as those of a DataFrame; its length is the number of rows."""

    rows = 0

    def __len__(self) -> int:
        return self.rows


def rows_of(samples: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Return rows that are mappings.

    Raises:
        UsageError: there is none, or one is something else.
    """
    rows = list(samples)
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if wrong is not None or not rows:
        got = "none" if not rows else f"row {wrong} is of type {type(rows[wrong or 0]).__name__}"
        raise UsageError(f"expected rows that are mappings of names to values; got {got}")
    return rows


def check_fields(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Check that some row has each field.

    Raises:
        UsageError: none has one; the message has the nearest.
    """
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name not in known:
            raise unknown("field", name, known)


def framed(table: Mapping[str, list[Any]], columns: Mapping[str, Sequence[str]], rows: int) -> pl.DataFrame:
    """Return a DataFrame with one column of codes, of notes and of images, as far as there are any."""
    wanted = {kind: names for kind, names in columns.items() if names}
    given = _Table({name: _Column(cells) for name, cells in table.items()})
    given.rows = rows
    frame_records(given, wanted)  # what is wrong with a measurement is said with its row
    records = frame_records(given, {kind: names for kind, names in wanted.items() if kind != "measurements"})
    numbers = {
        name: [None if is_missing(cell) else float(cell) for cell in table[name]]
        for name in wanted.get("measurements", [])
    }
    frame = from_records(records, wanted)
    return frame.with_columns(pl.Series(name, cells, pl.Float64) for name, cells in numbers.items())


def from_records(records: Sequence[Record], columns: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    """Return codes, notes and images of records as a DataFrame, as far as there are such columns."""
    cells: dict[str, pl.Series] = {}
    if "codes" in columns:
        cells["codes"] = pl.Series([_events(each) for each in records], dtype=_EVENT)
    if "notes" in columns:
        cells["notes"] = pl.Series(
            [[{"text": note.text, "days": note.days} for note in each.notes] or None for each in records], dtype=_NOTE
        )
    if "images" in columns:
        cells["images"] = pl.Series(
            [[{"path": str(image.path), "days": image.days} for image in each.images] or None for each in records],
            dtype=_IMAGE,
        )
    return pl.DataFrame(cells)


def _events(record: Record) -> list[dict[str, Any]] | None:
    codes, days, values = record.codes
    events = zip(codes, days.tolist(), values.tolist(), strict=True)
    return [{"code": c, "days": d, "value": None if math.isnan(v) else v} for c, d, v in events] or None


def taken(frame: Any, columns: Columns | None) -> list[tuple[Record, dict[str, float | None]]]:
    """Return the record of each row without its measurements, and these."""
    chosen = columns_by_modality(list(frame.columns), columns)
    frame_records(frame, chosen)
    records = frame_records(frame, {kind: chosen[kind] for kind in KINDS[:3] if kind in chosen})
    cells = {name: frame[name].to_list() for name in chosen.get("measurements", [])}
    return [
        (record, {name: None if is_missing(each[i]) else float(each[i]) for name, each in cells.items()})
        for i, record in enumerate(records)
    ]


def labels_of(rows: Sequence[Mapping[str, Any]], label: str | None) -> NDArray[Any] | None:
    """Return the label of each row, None where none is asked for.

    Raises:
        UsageError: a row has none.
    """
    if label is None:
        return None
    lacking = next((i for i, row in enumerate(rows) if is_missing(row.get(label))), None)
    if lacking is not None:
        raise UsageError(f"row {lacking}: '{label}' is empty")
    return np.array([row[label] for row in rows])


def given_labels(y: ArrayLike | None, label: str, rows: int) -> list[dict[str, Any]]:
    """Return the label of each row as plain data; nothing without labels."""
    if y is None:
        return [{}] * rows
    values = np.asarray(y).tolist()
    if len(values) != rows:
        raise UsageError(f"y must have one value a row ({rows}); got {len(values)}")
    return [{label: each} for each in values]
