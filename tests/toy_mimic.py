"""Two patients of MIMIC-IV and of MIMIC-III by hand, written as their tables are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from toy_eicu import write_table

from experiments.sources.mimic.people import CORE, Version

ANNA, BERT = 10, 20
ENTERED = datetime(2150, 1, 1, 12)  # Anna's unit stay
LEFT = "2150-01-06 12:00:00"

# Anna stays five days and lives. Bert, over 89, dies in his second stay; in his first he was in the unit for ten hours.
ADMISSIONS = [
    {"subject_id": ANNA, "hadm_id": 1, "admittime": "2150-01-01 10:00:00", "dischtime": LEFT}
    | {"admission_type": "URGENT", "hospital_expire_flag": 0},
    {"subject_id": BERT, "hadm_id": 2, "admittime": "2150-02-01 10:00:00", "dischtime": "2150-02-02 10:00:00"}
    | {"admission_type": "URGENT", "hospital_expire_flag": 0},
    {"subject_id": BERT, "hadm_id": 3, "admittime": "2150-03-01 10:00:00", "dischtime": "2150-03-04 00:00:00"}
    | {"admission_type": "URGENT", "hospital_expire_flag": 1, "deathtime": "2150-03-04 09:00:00"},
]
STAYS = [
    (ANNA, 1, 101, "2150-01-01 12:00:00", "2150-01-05 12:00:00"),
    (BERT, 2, 102, "2150-02-01 12:00:00", "2150-02-01 22:00:00"),
    (BERT, 3, 103, "2150-03-01 12:00:00", "2150-03-03 12:00:00"),
]
PATIENTS: dict[Version, list[dict[str, Any]]] = {
    4: [
        {"subject_id": ANNA, "gender": "F", "anchor_age": 50, "anchor_year": 2150},
        {"subject_id": BERT, "gender": "M", "anchor_age": 91, "anchor_year": 2150},
    ],
    3: [
        {"subject_id": ANNA, "gender": "F", "dob": "2100-01-01 00:00:00"},
        {"subject_id": BERT, "gender": "M", "dob": "1850-02-01 00:00:00"},
    ],
}


def write_core(folder: Path, version: Version, **changes: list[dict[str, Any]]) -> None:
    """Write patients, admissions and icustays; for MIMIC-III with names in capitals, as the full release has them."""
    key = "icustay_id" if version == 3 else "stay_id"
    names = ("subject_id", "hadm_id", key, "intime", "outtime")
    stays = [dict(zip(names, stay, strict=True)) for stay in STAYS]
    tables = {"patients": PATIENTS[version], "admissions": ADMISSIONS, "icustays": stays} | changes
    for name, rows in tables.items():
        whole = [dict.fromkeys(CORE[version][name], "") | row for row in rows]
        put(folder, version, name, whole)


def put(folder: Path, version: Version, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write a table into the folder of its module, or in capitals."""
    if version == 3:
        folder.mkdir(parents=True, exist_ok=True)
        return write_table(folder, name.upper(), [{key.upper(): cell for key, cell in row.items()} for row in rows])
    module = "icu" if name in ("icustays", "chartevents", "inputevents", "outputevents") else "hosp"
    (folder / module).mkdir(parents=True, exist_ok=True)
    return write_table(folder / module, name, rows, packed=name != "patients")


@pytest.fixture
def mimic4(tmp_path: Path) -> Path:
    """The core tables of MIMIC-IV."""
    write_core(tmp_path / "source", 4)
    return tmp_path / "source"


@pytest.fixture
def mimic3(tmp_path: Path) -> Path:
    """The core tables of MIMIC-III."""
    write_core(tmp_path / "source", 3)
    return tmp_path / "source"
