"""Who is predicted, and who is left out and why: one prediction a unit stay, some hours after its start."""

from __future__ import annotations

from typing import Any

import polars as pl

from experiments.sources.flow import Label, labelled, narrowed, step
from experiments.sources.mimic.people import DAYS_A_YEAR, People

ADULT_YEARS = 18
LONG_STAY_HOURS = 72


def labels(people: People, hours: int) -> list[Label]:
    """Return death in hospital and unit stay over 3 days, with the flow of the cohort."""
    predicted, steps = _predicted(people, hours)
    known = predicted.filter(pl.col("hospital_expire_flag").is_in([0, 1]))
    unknown = step("known whether the patient left the hospital alive", known, predicted)
    long = pl.col("outtime") - pl.col("intime") > pl.duration(hours=LONG_STAY_HOURS)
    return [
        labelled("hospital_mortality", known, pl.col("hospital_expire_flag") == 1, [*steps, unknown]),
        labelled("unit_stay_over_3_days", predicted, long, steps),
    ]


def _predicted(people: People, hours: int) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Leave out stays that cannot be predicted honestly, never for lacking a modality."""
    hospital = people.admissions.select(
        "subject_id", "hadm_id", "admittime", "dischtime", "left", "hospital_expire_flag"
    )
    table = people.stays.join(hospital, on=["subject_id", "hadm_id"], how="left", maintain_order="left")
    table = table.join(people.patients.drop("first", "shifted"), on="subject_id", how="left", maintain_order="left")
    at = pl.col("intime") + pl.duration(hours=hours)
    known_patient = pl.col("subject_id").is_in(people.patients["subject_id"].to_list())
    age = (pl.col("intime") - pl.col("born")).dt.total_days() / DAYS_A_YEAR
    table = table.with_columns(prediction_time=at, age=age, listed=known_patient)
    in_order = (pl.col("outtime") >= pl.col("intime")) & (pl.col("dischtime") >= pl.col("admittime"))
    return narrowed(
        table.sort("subject_id", "intime", "stay_id"),
        "unit stays in the database",
        (
            (
                "of a patient and a hospital stay that have a row of their own",
                pl.col("listed") & pl.col("left").is_not_null(),
            ),
            ("with times of entering and leaving, each leaving after its entering", in_order),
            ("of patients who are not known to be under 18", pl.col("age").is_null() | (pl.col("age") >= ADULT_YEARS)),
            (
                f"alive and in the unit {hours} h after admission to it",
                (pl.col("outtime") > at) & (pl.col("died").is_null() | (pl.col("died") > at)),
            ),
            ("in the hospital then too (a few records contradict the unit's)", pl.col("left") > at),
            (
                "one unit stay a patient and minute of admission",
                pl.struct("subject_id", "prediction_time").is_first_distinct(),
            ),
        ),
    )
