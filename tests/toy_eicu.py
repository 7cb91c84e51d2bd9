"""A few patients of eICU by hand, written as its tables are."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from experiments.sources.eicu.stays import PATIENT

MINUTE = timedelta(minutes=1)

# Anna: one hospital stay with two unit stays. Bert: a hospital stay in 2014 and two of unknown order in 2015.
# Carl dies in the unit within a day.
STAYS = [
    # stay, hospital stay, patient, sex, age, hospital, admitted, left hospital, status, visit, left unit, year
    (11, 1, "a-1", "Female", "> 89", 7, -60, 9000, "Expired", 1, 2000, 2014),
    (12, 1, "a-1", "Female", "> 89", 7, -3060, 6000, "Expired", 2, 5000, 2014),
    (21, 2, "b-1", "Male", "50", 7, 0, 5000, "Alive", 1, 4000, 2014),
    (22, 3, "b-1", "Male", "51", 8, 0, 5000, "Alive", 1, 4321, 2015),
    (23, 4, "b-1", "Male", "51", 8, 0, 900, "Alive", 1, 800, 2015),
    (24, 5, "b-1", "Male", "51", 8, 0, 5000, "Expired", 1, 4000, 2015),
    (31, 6, "c-1", "", "", 9, -10, 700, "Expired", 1, 700, 2015),
]
_NAMES = (
    "patientunitstayid patienthealthsystemstayid uniquepid gender age hospitalid hospitaladmitoffset "
    "hospitaldischargeoffset hospitaldischargestatus unitvisitnumber unitdischargeoffset hospitaldischargeyear"
)
ANNA, BERT, CARL = 1, 2, 3
ADMITTED = datetime(2014, 1, 1) + 60 * MINUTE  # Anna's first unit stay


def write_table(folder: Path, name: str, rows: list[dict[str, Any]], *, packed: bool = True) -> Path:
    path = folder / (f"{name}.csv.gz" if packed else f"{name}.csv")
    text = pl.DataFrame(rows, infer_schema_length=None).write_csv()
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


def write_patients(folder: Path, **changes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [dict.fromkeys(PATIENT, "") | dict(zip(_NAMES.split(), stay, strict=True)) for stay in STAYS]
    write_table(folder, "patient", [row | changes for row in rows], packed=False)


def events(folder: Path, subject: int | None = None, prefix: str = "") -> pl.DataFrame:
    table = pl.read_parquet(folder / "data" / "*.parquet")
    table = table.filter(pl.col("code").str.starts_with(prefix))
    return table if subject is None else table.filter(pl.col("subject_id") == subject)


def minutes(folder: Path, subject: int, prefix: str, start: datetime = ADMITTED) -> list[tuple[float, str, Any]]:
    """Return (minutes after a moment, code, value) of a subject's events."""
    rows = events(folder, subject, prefix).select("time", "code", "numeric_value").iter_rows()
    return [((time - start) / MINUTE, code, value) for time, code, value in rows]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    src = tmp_path / "source"
    write_patients(src)
    return src
