"""Patients, hospital stays and unit stays: the tables without which there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from experiments.sources.facts import end_of_day, facts, path
from experiments.sources.tables import Kind, check_key, read_whole
from fusion.component import UsageError

Version = Literal[3, 4]
SHIFTED_YEARS = 300  # MIMIC-III puts the birth of patients over 89 that long before their first admission
OLDEST_YEARS = 91.4  # the median age of those, by its documentation
DAYS_A_YEAR = 365.25

_ADMISSIONS: dict[str, Kind] = {
    **{"subject_id": "integer", "hadm_id": "integer", "admittime": "time", "dischtime": "time", "deathtime": "time"},
    **{"admission_type": "text", "admission_location": "text", "discharge_location": "text", "insurance": "text"},
    **{"language": "text", "marital_status": "text", "hospital_expire_flag": "integer"},
}
CORE: dict[Version, dict[str, dict[str, Kind]]] = {
    3: {
        "patients": {"subject_id": "integer", "gender": "text", "dob": "time", "dod": "time"},
        "admissions": _ADMISSIONS | {"ethnicity": "text", "diagnosis": "text"},
        "icustays": {
            **{"subject_id": "integer", "hadm_id": "integer", "icustay_id": "integer"},
            **{"first_careunit": "text", "last_careunit": "text", "intime": "time", "outtime": "time"},
        },
    },
    4: {
        "patients": {
            **{"subject_id": "integer", "gender": "text", "anchor_age": "number", "anchor_year": "integer"},
            "dod": "time",
        },
        "admissions": _ADMISSIONS | {"race": "text"},
        "icustays": {
            **{"subject_id": "integer", "hadm_id": "integer", "stay_id": "integer"},
            **{"first_careunit": "text", "last_careunit": "text", "intime": "time", "outtime": "time"},
        },
    },
}
_RENAME = {"race": "ethnicity", "icustay_id": "stay_id"}


@dataclass(frozen=True)
class People:
    """The core tables, alike for both releases.

    Shape:
        patients: subject_id, gender, born, died, first (admission), shifted. admissions: the table's columns and left.
        stays: the unit stays.
    """

    patients: pl.DataFrame
    admissions: pl.DataFrame
    stays: pl.DataFrame


def read_people(found: Mapping[str, Path], version: Version) -> People:
    """Read the core tables.

    Raises:
        UsageError: a column or key is missing, a key is there twice, or there is no unit stay.
    """
    keys = {"patients": "subject_id", "admissions": "hadm_id", "icustays": "icustay_id" if version == 3 else "stay_id"}
    needed = {"patients": (), "admissions": ("subject_id", "admittime"), "icustays": ("subject_id", "hadm_id")}
    tables = {}
    for name, columns in CORE[version].items():
        table = read_whole(found[name], columns)
        check_key(found[name], table, keys[name], needed[name], "a row above")
        tables[name] = table.rename({old: new for old, new in _RENAME.items() if old in table.columns})
    if tables["icustays"].is_empty():
        raise UsageError(f"{found['icustays']}: no unit stay in it")
    admissions = tables["admissions"].with_columns(left=pl.max_horizontal("admittime", "dischtime", "deathtime"))
    return People(_lives(tables["patients"], admissions, version), admissions, tables["icustays"])


def _lives(patients: pl.DataFrame, admissions: pl.DataFrame, version: Version) -> pl.DataFrame:
    """Add birth and death. MIMIC-IV tells an age in a year, which makes the birth 1 January; over 89 it says 91."""
    hospital = admissions.group_by("subject_id").agg(
        first=pl.col("admittime").min(), died_inside=pl.col("deathtime").min()
    )
    table = patients.join(hospital, on="subject_id", how="left", maintain_order="left")
    if version == 3:
        shifted = (pl.col("first") - pl.col("dob")).dt.total_days() > (SHIFTED_YEARS - 5) * DAYS_A_YEAR
        oldest = pl.col("first") - pl.duration(hours=int(OLDEST_YEARS * DAYS_A_YEAR * 24))
        born = pl.when(shifted).then(oldest).otherwise(pl.col("dob"))
    else:
        shifted = pl.col("anchor_age") > 89
        born = pl.datetime(pl.col("anchor_year") - pl.col("anchor_age").cast(pl.Int64), 1, 1)
    died = pl.coalesce("died_inside", end_of_day(pl.col("dod")))
    return table.select(
        "subject_id", "gender", born=born.cast(pl.Datetime("us")), died=died, first="first", shifted=shifted
    )


def patient_facts(people: People) -> pl.DataFrame:
    """Return sex, birth and death of the patients; a birth after the death or the first admission is none."""
    table, born = people.patients, pl.col("born")
    dead = table.filter(pl.col("died").is_not_null())
    wrong = [
        ("birth after death", born > pl.col("died")),
        ("birth after the first admission", born > pl.col("first").dt.offset_by("1d")),
    ]
    return pl.concat(
        [
            facts(table, None, pl.lit("GENDER//") + pl.col("gender")),
            facts(table, born, pl.lit("MEDS_BIRTH"), why=wrong),
            facts(dead, pl.col("died"), pl.lit("MEDS_DEATH")),
        ]
    )


def admission_facts(people: People) -> pl.DataFrame:
    """Return what is known at admission, and where the patient went; ethnicity is that of the first admission."""
    table, start = people.admissions, pl.col("admittime")
    first = table.sort("admittime", "hadm_id").unique("subject_id", keep="first", maintain_order=True)
    unknown = pl.lit("unknown")
    way = path("HOSPITAL_ADMISSION", pl.col("admission_type").fill_null(unknown), pl.col("admission_location"))
    gone = path("HOSPITAL_DISCHARGE", pl.col("discharge_location").fill_null(unknown))
    wrong = [("discharge before admission", pl.col("dischtime") < start), ("no time", pl.col("dischtime").is_null())]
    parts = [
        facts(table, start, way),
        facts(table, pl.col("left"), gone, why=wrong),
        facts(first.drop_nulls("ethnicity"), None, pl.lit("ETHNICITY//") + pl.col("ethnicity").str.to_lowercase()),
    ]
    for name in ("insurance", "language", "marital_status"):
        parts.append(facts(table.drop_nulls(name), start, path(name.upper(), pl.col(name))))
    if "diagnosis" in table.columns:
        parts.append(facts(table.drop_nulls("diagnosis"), start, path("ADMISSION_DX", pl.col("diagnosis"))))
    return pl.concat(parts)


def stay_facts(people: People) -> pl.DataFrame:
    """Return admission to and discharge from the unit."""
    table = people.stays
    unit = [pl.lit(f"UNIT_{way}//") + pl.col(f"{which}_careunit").fill_null("unknown") for way, which in _WAYS]
    wrong = [("leaving before entering", pl.col("outtime") < pl.col("intime"))]
    return pl.concat([facts(table, pl.col("intime"), unit[0]), facts(table, pl.col("outtime"), unit[1], why=wrong)])


_WAYS = (("ADMISSION", "first"), ("DISCHARGE", "last"))
