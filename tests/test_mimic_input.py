"""MIMIC: what is wrong in the source is one clear line or counted, and nothing half-written stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_eicu import events
from toy_mimic import (
    ADMISSIONS,
    ANNA,
    BERT,
    PATIENTS,
    mimic4,  # noqa: F401 - fixtures
    put,
    write_core,
)

from experiments.sources.mimic import convert_mimic
from fusion.component import UsageError


def test_core_tables_are_needed(tmp_path: Path) -> None:
    src, out = tmp_path / "source", tmp_path / "out"
    with pytest.raises(UsageError, match="is no folder; wanted one with the tables of MIMIC-IV"):
        convert_mimic(src, out, 4)
    write_core(src, 4)
    (src / "icu" / "icustays.csv.gz").unlink()
    with pytest.raises(UsageError, match=r"icustays\.csv or icustays\.csv\.gz is missing, nor in hosp/, icu/"):
        convert_mimic(src, out, 4)
    write_core(src, 4)
    with pytest.raises(UsageError, match=r"patients\.csv: missing column 'dob'; got subject_id"):
        convert_mimic(src, out, 3)
    with pytest.raises(UsageError, match="hours must be from 1 to 71"):
        convert_mimic(src, out, 4, hours=72)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_flat_folders_and_plain_files_do_as_well(mimic4: Path, tmp_path: Path) -> None:
    convert_mimic(mimic4, tmp_path / "nested", 4)
    for path in list(mimic4.glob("*/*.csv*")):
        path.rename(mimic4 / path.name)
    convert_mimic(mimic4, tmp_path / "flat", 4, patients_per_shard=1)
    assert events(tmp_path / "flat").equals(events(tmp_path / "nested"))


def test_wrong_tables_name_file_and_column_and_leave_nothing(mimic4: Path, tmp_path: Path) -> None:
    out, row = tmp_path / "out", {"subject_id": ANNA, "hadm_id": 1, "transfertime": "soon", "curr_service": "MED"}
    put(mimic4, 4, "services", [row])
    with pytest.raises(UsageError, match=r"services\.csv\.gz: column 'transfertime' must be time"):
        convert_mimic(mimic4, out, 4)
    put(mimic4, 4, "services", [row, row | {"transfertime": "2150-01-01 12:00:00"}])
    tables = convert_mimic(mimic4, out, 4)["tables"]
    assert tables["services"]["left_out"] == {"no readable time in transfertime": 1}
    path = put(mimic4, 4, "diagnoses_icd", [row | {"icd_code": "I10", "icd_version": "secret"}])
    with pytest.raises(UsageError, match=r"row 2: column 'icd_version' must be integer") as caught:
        convert_mimic(mimic4, tmp_path / "other", 4)
    assert "secret" not in str(caught.value)
    rows = [row | {"icd_code": f"I{number}", "icd_version": 10} for number in range(999)]
    path = put(mimic4, 4, "diagnoses_icd", rows)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"diagnoses_icd\.csv\.gz: damaged"):
        convert_mimic(mimic4, tmp_path / "other", 4)
    assert not (tmp_path / "other").exists()


def test_keys_are_there_once(tmp_path: Path) -> None:
    src = tmp_path / "source"
    write_core(src, 4, admissions=[*ADMISSIONS, ADMISSIONS[0]])
    with pytest.raises(UsageError, match=r"admissions\.csv\.gz: row 5: 'hadm_id' repeats a row above"):
        convert_mimic(src, tmp_path / "out", 4)


def test_impossible_order_is_counted(tmp_path: Path) -> None:
    src, out = tmp_path / "source", tmp_path / "out"
    admissions = [ADMISSIONS[0] | {"dischtime": "2149-12-31 10:00:00"}, *ADMISSIONS[1:]]
    patients = [PATIENTS[3][0] | {"dob": "2151-01-01 00:00:00", "dod": "2150-06-01 00:00:00"}, PATIENTS[3][1]]
    write_core(src, 3, admissions=admissions, patients=patients)
    put(src, 3, "services", [{"subject_id": 99, "transfertime": "2150-01-01 12:00:00", "curr_service": "MED"}])
    summary = convert_mimic(src, out, 3)
    tables = summary["tables"]
    assert tables["admissions"]["left_out"] == {"discharge before admission": 1}
    assert tables["patients"]["left_out"] == {"birth after death": 1}
    assert tables["services"]["left_out"] == {"of a patient who is not in patients": 1}
    steps = summary["labels"]["hospital_mortality"]
    assert [step.get("left_out", 0) for step in steps][2] == 1
    assert events(out, prefix="MEDS_BIRTH")["subject_id"].to_list() == [BERT]
