"""Who is predicted, and who is left out and why: one prediction a unit stay, 24 hours after admission."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from experiments.sources.eicu.stays import DAY_MINUTES

PREDICTED_AT = pl.duration(minutes=DAY_MINUTES)
LONG_STAY_MINUTES = 3 * DAY_MINUTES


@dataclass(frozen=True)
class Label:
    """A label: rows subject_id, prediction_time, boolean_value; and the steps from all unit stays to them."""

    name: str
    rows: pl.DataFrame
    steps: list[dict[str, Any]]


def labels(stays: pl.DataFrame) -> list[Label]:
    """Return death in hospital and unit stay over 3 days, with the flow of the cohort."""
    predicted, steps = _predicted(stays)
    known = predicted.filter(pl.col("hospitaldischargestatus").is_in(["Alive", "Expired"]))
    unknown = _step("known whether the patient left the hospital alive", known, predicted)
    return [
        _label("hospital_mortality", known, pl.col("hospitaldischargestatus") == "Expired", [*steps, unknown]),
        _label("unit_stay_over_3_days", predicted, pl.col("unitdischargeoffset") > LONG_STAY_MINUTES, steps),
    ]


def _predicted(stays: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Leave out stays that cannot be predicted honestly, never for lacking a modality."""
    table = stays.with_columns(prediction_time=pl.col("admitted") + PREDICTED_AT)
    steps = [_step("unit stays in the database", table)]
    for why, kept in (
        (
            "alive and in the unit 24 h after admission to it",
            pl.col("unitdischargeoffset") > DAY_MINUTES,
        ),
        (
            "in the hospital then too (a few records contradict the unit's)",
            pl.col("hospitaldischargeoffset") > DAY_MINUTES,
        ),
        (
            "of hospital stays in the same year and at the same age, whose order is not recorded, only "
            "one is predicted for",
            pl.col("ordered"),
        ),
        ("not after a hospital stay that ended in death", ~pl.col("after_death")),
        (
            "one unit stay a patient and minute of admission",
            pl.struct("subject_id", "prediction_time").is_first_distinct(),
        ),
    ):
        before, table = table, table.filter(kept)
        steps.append(_step(why, table, before))
    return table, steps


def _step(why: str, table: pl.DataFrame, before: pl.DataFrame | None = None) -> dict[str, Any]:
    step = {"step": why, "n": table.height, "patients": table["subject_id"].n_unique()}
    return step if before is None else step | {"left_out": before.height - table.height}


def _label(name: str, table: pl.DataFrame, positive: pl.Expr, steps: list[dict[str, Any]]) -> Label:
    rows = table.select("subject_id", "prediction_time", boolean_value=positive)
    last = _step("predicted", rows) | {"positive": int(rows["boolean_value"].sum())}
    return Label(name, rows, [*steps, last])
