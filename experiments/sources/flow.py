"""The flow of a cohort: from everybody in the source, step by step with those left out, to those predicted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from fusion.component import UsageError


@dataclass(frozen=True)
class Label:
    """A label: rows subject_id, prediction_time, boolean_value; and the steps from all unit stays to them."""

    name: str
    rows: pl.DataFrame
    steps: list[dict[str, Any]]


def narrowed(
    table: pl.DataFrame, everybody: str, steps: Iterable[tuple[str, pl.Expr]]
) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Keep the rows that pass every step in turn, and count those each step leaves out."""
    counted = [step(everybody, table)]
    for why, kept in steps:
        before, table = table, table.filter(kept)
        counted.append(step(why, table, before))
    return table, counted


def step(why: str, table: pl.DataFrame, before: pl.DataFrame | None = None) -> dict[str, Any]:
    """Count the rows and patients after a step, and the rows that it left out."""
    found = {"step": why, "n": table.height, "patients": table["subject_id"].n_unique()}
    return found if before is None else found | {"left_out": before.height - table.height}


def labelled(name: str, table: pl.DataFrame, positive: pl.Expr, steps: list[dict[str, Any]]) -> Label:
    """Return the label of the rows that are left."""
    rows = table.select("subject_id", "prediction_time", boolean_value=positive)
    last = step("predicted", rows) | {"positive": int(rows["boolean_value"].sum())}
    return Label(name, rows, [*steps, last])


def once(rows: pl.DataFrame, where: str, steps: list[dict[str, Any]]) -> pl.DataFrame:
    """Keep one of rows that say the same of a patient and time, and count the others as a step.

    Shape:
        rows: columns subject_id, prediction_time, value and the number of the row in its file.

    Raises:
        UsageError: two rows contradict each other.
    """
    key = ["subject_id", "prediction_time"]
    same = rows.unique([*key, "value"], keep="first", maintain_order=True)
    again = ~same.select(pl.struct(key).is_first_distinct()).to_series()
    if again.any():
        row = same.filter(again)["row"][0]
        raise UsageError(f"{where}: row {row}: contradicts an earlier row on the same patient and prediction time")
    steps.append(step("each patient and time once", same, rows))
    return same
