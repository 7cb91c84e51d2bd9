"""What is predicted, and who is in which split, as a hospital's own tables say it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import SPLITS
from experiments.sources.flow import once, step
from experiments.sources.folder import LabelColumn, write_labels
from experiments.sources.pieces import Origin
from experiments.sources.subjects import Subjects
from experiments.sources.tabular.mapping import LabelTable, SplitTable
from experiments.sources.tabular.rows import patient_column, time_column
from experiments.sources.typed import ROW, Column, Kind, Typed
from fusion.component import UsageError, unknown

_TRUE, _FALSE = ("1", "1.0", "true", "t", "yes", "y"), ("0", "0.0", "false", "f", "no", "n")
_COLUMNS: dict[str, tuple[LabelColumn, pl.DataType]] = {
    "boolean": ("boolean_value", pl.Boolean()),
    "integer": ("integer_value", pl.Int64()),
    "float": ("float_value", pl.Float32()),
    "categorical": ("categorical_value", pl.String()),
}


def lay_labels(
    folder: Path, table: LabelTable, origin: Origin, zone: str | None, subjects: Subjects
) -> list[dict[str, Any]]:
    """Write a label and return the steps from all rows of its table to those predicted.

    Raises:
        UsageError: a column is missing or of another kind, two rows contradict each other, or no label is left.
    """
    kind: Kind = "number" if table.kind in ("integer", "float") else "text"
    columns = {
        "patient": patient_column(table, subjects.ids),
        "prediction_time": time_column(table.time, zone, early=True),
        "value": Column(kind, table.value, decimal=table.decimal),
    }
    typed = Typed(origin, columns)
    pieces = [subjects.meet(piece, "patient") for piece in typed.pieces()]
    if not pieces:
        raise UsageError(f"{origin.where}: no label in it")
    read = pl.concat(pieces)
    steps: list[dict[str, Any]] = [{"step": f"rows of {table.file}", "n": typed.rows}]
    value = _value(read, table, typed)
    rows = read.select("subject_id", "prediction_time", value=value, row=ROW).drop_nulls()
    why = "with a patient, a prediction time and a value that can be read"
    steps.append(step(why, rows) | {"left_out": typed.rows - rows.height})
    rows = once(rows, origin.where, steps)
    if rows.is_empty():
        raise UsageError(f"{origin.where}: no row has a patient, a prediction time and a value")
    column, _ = _COLUMNS[table.kind]
    write_labels(
        folder, table.name, rows.select("subject_id", "prediction_time", pl.col("value").alias(column)), column
    )
    return [*steps, _last(rows, table)]


def _last(rows: pl.DataFrame, table: LabelTable) -> dict[str, Any]:
    last = step("predicted", rows)
    return last | {"positive": int(rows["value"].sum())} if table.kind == "boolean" else last


def _value(read: pl.DataFrame, table: LabelTable, typed: Typed) -> pl.Series:
    """Return the truth in its type, null where it cannot be read."""
    raw, (_, kind) = read["value"], _COLUMNS[table.kind]
    if table.kind == "boolean":
        word = raw.str.to_lowercase()
        found = word.is_in(_TRUE).set(~word.is_in([*_TRUE, *_FALSE]), None)
        wanted = "must be 0 or 1, true or false, yes or no"
    elif table.kind == "integer":
        found, wanted = raw.set(raw != raw.round(), None).cast(kind), "must be a whole number"
    else:
        return raw.cast(kind)
    wrong = found.is_null() & raw.is_not_null()
    if wrong.any():
        raise typed.wrong(table.value, int(read[ROW][int(wrong.arg_true()[0])]), wanted)
    return found


def read_splits(table: SplitTable, origin: Origin, subjects: Subjects) -> pl.DataFrame:
    """Return who is in which split.

    Raises:
        UsageError: a column is missing, a split is unknown, or a patient is in two.
    """
    typed = Typed(origin, {"patient": patient_column(table, subjects.ids), "split": Column("text", table.split)})
    pieces = [subjects.meet(piece, "patient") for piece in typed.pieces()]
    if not pieces:
        raise UsageError(f"{origin.where}: no split in it")
    rows = pl.concat(pieces).drop_nulls()
    names = {name: name for name in SPLITS} | table.names
    for name in rows["split"].unique(maintain_order=True):
        if name not in names:
            row = rows.filter(pl.col("split") == name)[ROW][0]
            raise unknown("split", name, names, f"{origin.where}: row {row}: column '{table.split}'")
    rows = rows.with_columns(pl.col("split").replace_strict(names)).unique(["subject_id", "split"], maintain_order=True)
    again = ~rows["subject_id"].is_first_distinct()
    if again.any():
        raise UsageError(f"{origin.where}: row {rows.filter(again)[ROW][0]}: the patient is in another split above")
    return rows.select("subject_id", "split").sort("subject_id")
