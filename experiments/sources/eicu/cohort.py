"""Who is predicted, and who is left out and why: one prediction a unit stay, 24 hours after admission."""

from __future__ import annotations

from typing import Any

import polars as pl

from experiments.sources.eicu.stays import DAY_MINUTES
from experiments.sources.flow import Label, labelled, narrowed, step

PREDICTED_AT = pl.duration(minutes=DAY_MINUTES)
LONG_STAY_MINUTES = 3 * DAY_MINUTES


def labels(stays: pl.DataFrame) -> list[Label]:
    """Return death in hospital and unit stay over 3 days, with the flow of the cohort."""
    predicted, steps = _predicted(stays)
    known = predicted.filter(pl.col("hospitaldischargestatus").is_in(["Alive", "Expired"]))
    unknown = step("known whether the patient left the hospital alive", known, predicted)
    return [
        labelled("hospital_mortality", known, pl.col("hospitaldischargestatus") == "Expired", [*steps, unknown]),
        labelled("unit_stay_over_3_days", predicted, pl.col("unitdischargeoffset") > LONG_STAY_MINUTES, steps),
    ]


def _predicted(stays: pl.DataFrame) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Leave out stays that cannot be predicted honestly, never for lacking a modality."""
    table = stays.with_columns(prediction_time=pl.col("admitted") + PREDICTED_AT)
    steps = (
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
    )
    return narrowed(table, "unit stays in the database", steps)


def unpredictable(stays: pl.DataFrame) -> pl.DataFrame:
    """Return the hospital stays in which no honest prediction can be made, for tasks that know the events only.

    Shape:
        -> columns subject_id, start, end, why.
    """
    unknown = ~pl.col("hospitaldischargestatus").is_in(["Alive", "Expired"]).fill_null(value=False)
    why = (
        pl.when(~pl.col("ordered"))
        .then(pl.lit("what came before it is not recorded"))
        .when(pl.col("after_death"))
        .then(pl.lit("it follows a hospital stay that ended in death"))
        .when(unknown)
        .then(pl.lit("how it ended is not recorded"))
    )
    table = stays.select("subject_id", start="opened", end="closed", why=why).drop_nulls("why")
    return table.unique().sort("subject_id", "start", "end")
