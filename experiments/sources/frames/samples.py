"""PyHealth's samples and Hugging Face's datasets as DataFrames with a patient a row, and back; neither is imported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
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


def from_pyhealth(
    samples: Iterable[Mapping[str, Any]],
    *,
    label: str | None = "label",
    codes: Mapping[str, str] | Sequence[str] = (),
    notes: Sequence[str] = (),
    images: Sequence[str] = (),
    measurements: Sequence[str] = (),
) -> Samples:
    """Return PyHealth samples, as a task makes them before they are numbered, as a DataFrame.

    Args:
        codes: fields of codes, or what is put before the codes of each: `{"conditions": "ICD10CM//"}` makes them codes
            that ontologies know; without, it is the field's name. Codes in visits, a list of lists, have no times in
            PyHealth: they are put a day apart, the last visit at the prediction.

    Examples:
        >>> found = from_pyhealth(
        ...     [{"patient_id": "p", "conditions": [["I10"], ["I50"]], "label": 1}], codes={"conditions": "ICD10CM//"}
        ... )
        >>> found.X["codes"][0].struct.field("code").to_list(), found.X["codes"][0].struct.field("days").to_list()
        (['ICD10CM//I10', 'ICD10CM//I50'], [1.0, 0.0])

    Raises:
        UsageError: a field is in no sample, or holds something else; with its row and name.
    """
    rows = _rows(samples)
    before = dict(codes) if isinstance(codes, Mapping) else {name: f"{name}//" for name in codes}
    _check_fields(rows, [*before, *notes, *images, *measurements, *([label] if label else [])])
    patients = [row.get("patient_id") for row in rows]
    table = {name: [_visits(row.get(name), before[name], name, i) for i, row in enumerate(rows)] for name in before}
    table |= {name: [row.get(name) for row in rows] for name in (*notes, *images, *measurements)}
    chosen = {"codes": list(before), "notes": list(notes), "images": list(images), "measurements": list(measurements)}
    whose = None if any(each is None for each in patients) else np.array([str(each) for each in patients])
    return Samples(_framed(table, chosen, len(rows)), _labels(rows, label), whose)


def to_pyhealth(
    X: Any,  # noqa: N803
    y: ArrayLike | None = None,
    *,
    columns: Columns | None = None,
    label: str = "label",
    patients: Sequence[Any] | None = None,
) -> list[dict[str, Any]]:
    """Return a DataFrame as PyHealth samples: dicts with `patient_id`, `visit_id` and a field a modality.

    Codes of one time are a visit, oldest first; their values and the times of notes are left out, as PyHealth's
    sequences have none. A missing modality is an empty list, a missing measurement None.
    """
    found = []
    for i, (record, numbers) in enumerate(_taken(X, columns)):
        events = zip(record.codes.codes, record.codes.days.tolist(), strict=True)
        visits = [[code for code, _ in each] for _, each in groupby(events, key=lambda event: event[1])]
        sample = {"patient_id": str(i if patients is None else patients[i]), "visit_id": str(i), "codes": visits}
        sample |= {"notes": [note.text for note in record.notes], "images": [str(each.path) for each in record.images]}
        found.append(sample | numbers)
    return [sample | each for sample, each in zip(found, _given(y, label, len(found)), strict=True)]


def from_huggingface(
    dataset: Any,
    *,
    label: str | None = "label",
    columns: Columns | None = None,
    patient: str | None = None,
) -> Samples:
    """Return a Hugging Face dataset (one split), or any rows that are mappings, as a DataFrame.

    Args:
        columns: the columns of codes, notes, images and measurements, as the estimator takes them.
        patient: the column that says whose a row is.

    Examples:
        >>> found = from_huggingface([{"codes": ["I50"], "notes": "a cough", "age": 70, "label": 1}])
        >>> found.X.columns, found.y.tolist()
        (['codes', 'notes', 'age'], [1])

    Raises:
        UsageError: it is several splits, a column is missing or holds something else; with row and column.
    """
    if isinstance(dataset, Mapping):
        raise UsageError(f"expected the rows of one split, as dataset['train']; got several: {', '.join(dataset)}")
    rows = _rows(dataset)
    names = list(dict.fromkeys(name for row in rows for name in row if name not in (label, patient)))
    _check_fields(rows, [each for each in (label, patient) if each is not None])
    chosen = columns_by_modality(names, columns)
    table = {name: [_together(row.get(name)) for row in rows] for each in chosen.values() for name in each}
    y = _labels(rows, label)
    kinds = getattr((getattr(dataset, "features", None) or {}).get(label), "names", None)
    if kinds and y is not None:
        y = np.array(kinds)[y.astype(int)]
    return Samples(_framed(table, chosen, len(rows)), y, None if patient is None else _labels(rows, patient))


def to_huggingface(
    X: Any,  # noqa: N803
    y: ArrayLike | None = None,
    *,
    columns: Columns | None = None,
    label: str = "label",
) -> dict[str, list[Any]]:
    """Return a DataFrame as the columns that `datasets.Dataset.from_dict` takes; nothing is lost on the way back."""
    columns = columns_by_modality(list(X.columns), columns)
    taken = _taken(X, columns)
    frame = _from_records([record for record, _ in taken], columns)
    found = {name: frame[name].to_list() for name in frame.columns}
    found |= {name: [numbers[name] for _, numbers in taken] for name in columns.get("measurements", [])}
    return found if y is None else found | {label: [each[label] for each in _given(y, label, len(taken))]}


class _Column(list[Any]):
    to_list = list.copy


class _Table(dict[str, _Column]):
    """Columns that are gone through as those of a DataFrame; its length is the number of rows."""

    rows = 0

    def __len__(self) -> int:
        return self.rows


def _rows(samples: Iterable[Any]) -> list[Mapping[str, Any]]:
    rows = list(samples)
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if wrong is not None or not rows:
        got = "none" if not rows else f"row {wrong} is of type {type(rows[wrong or 0]).__name__}"
        raise UsageError(f"expected rows that are mappings of names to values; got {got}")
    return rows


def _check_fields(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    known = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name not in known:
            raise unknown("field", name, known)


def _visits(cell: Any, before: str, name: str, row: int) -> list[tuple[str, float]] | None:
    """Return the codes of a field with the days before the last visit."""
    if is_missing(cell):
        return None
    visits = [cell] if isinstance(cell, str) else list(cell)
    if not any(isinstance(visit, list | tuple) for visit in visits):
        visits = [visits]
    if not all(isinstance(visit, list | tuple) and all(isinstance(code, str) for code in visit) for visit in visits):
        raise UsageError(f"row {row}: field '{name}': expected codes, or visits that are lists of codes, as texts")
    return [(before + code, float(len(visits) - 1 - i)) for i, visit in enumerate(visits) for code in visit if code]


def _together(cell: Any) -> Any:
    """Return mappings for a mapping of lists, as which `datasets` gives out a list of mappings."""
    if isinstance(cell, Mapping) and cell and all(isinstance(each, list) for each in cell.values()):
        return [dict(zip(cell, each, strict=True)) for each in zip(*cell.values(), strict=True)]
    return cell


def _framed(table: Mapping[str, list[Any]], columns: Mapping[str, Sequence[str]], rows: int) -> pl.DataFrame:
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
    frame = _from_records(records, wanted)
    return frame.with_columns(pl.Series(name, cells, pl.Float64) for name, cells in numbers.items())


def _from_records(records: Sequence[Record], columns: Mapping[str, Sequence[str]]) -> pl.DataFrame:
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


def _taken(frame: Any, columns: Columns | None) -> list[tuple[Record, dict[str, float | None]]]:
    """Return the record of each row without its measurements, and these."""
    chosen = columns_by_modality(list(frame.columns), columns)
    frame_records(frame, chosen)
    records = frame_records(frame, {kind: chosen[kind] for kind in KINDS[:3] if kind in chosen})
    cells = {name: frame[name].to_list() for name in chosen.get("measurements", [])}
    return [
        (record, {name: None if is_missing(each[i]) else float(each[i]) for name, each in cells.items()})
        for i, record in enumerate(records)
    ]


def _labels(rows: Sequence[Mapping[str, Any]], label: str | None) -> NDArray[Any] | None:
    if label is None:
        return None
    lacking = next((i for i, row in enumerate(rows) if is_missing(row.get(label))), None)
    if lacking is not None:
        raise UsageError(f"row {lacking}: '{label}' is empty")
    return np.array([row[label] for row in rows])


def _given(y: ArrayLike | None, label: str, rows: int) -> list[dict[str, Any]]:
    """Return the label of each row as plain data; nothing without labels."""
    if y is None:
        return [{}] * rows
    values = np.asarray(y).tolist()
    if len(values) != rows:
        raise UsageError(f"y must have one value a row ({rows}); got {len(values)}")
    return [{label: each} for each in values]
