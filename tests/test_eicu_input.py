"""eICU: hourly values, wrong input, and codes that climb to an end."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_eicu import (
    ANNA,
    BERT,
    events,
    minutes,
    tables,  # noqa: F401 - fixtures
    write_patients,
    write_table,
)

from experiments.sources.eicu import convert_eicu
from experiments.sources.eicu.drugs import drug_name
from experiments.sources.eicu.notes import phrase
from experiments.sources.icd import icd_code, icd_parent
from fusion.component import UsageError


def test_hourly_values_are_known_at_the_end_of_their_hour(tables: Path, tmp_path: Path) -> None:
    out, yaib = tmp_path / "out", tmp_path / "yaib"
    yaib.mkdir()
    hours = pl.Series([timedelta(hours=23), timedelta(hours=24)], dtype=pl.Duration("ms"))
    pl.DataFrame({"stay_id": [11, 11], "time": hours, "hr": [80.0, 90.0], "crea": [float("nan"), None]}).write_parquet(
        yaib / "dyn.parquet"
    )
    summary = convert_eicu(tables, out, yaib=yaib)
    assert minutes(out, ANNA, "VITAL//heart") == [(1440, "VITAL//heart_rate", 80.0), (1500, "VITAL//heart_rate", 90.0)]
    assert summary["tables"]["yaib"] == {"rows": 2, "facts": 2, "events": 2, "left_out": {}}
    with pytest.raises(UsageError, match=r"nowhere.dyn\.parquet is missing"):
        convert_eicu(tables, tmp_path / "other", yaib=tmp_path / "nowhere")


def test_what_becomes_of_each_row_is_told_apart(tables: Path, tmp_path: Path) -> None:
    stays, offsets = [11, 11, 21, 99], [5, 5, 90_000, 5]  # the same twice, one two months late, one of nobody
    told = {"treatmentid": 1, "treatmentstring": "renal|dialysis"}
    rows = [told | {"patientunitstayid": a, "treatmentoffset": b} for a, b in zip(stays, offsets, strict=True)]
    write_table(tables, "treatment", rows)
    assert convert_eicu(tables, tmp_path / "out")["tables"]["treatment"] == {
        **{"rows": 4, "facts": 4, "events": 1},
        "left_out": {
            "of a unit stay that is not in patient": 1,
            "one event or note with another row": 1,
            "more than 30 days after the hospital stay": 1,
        },
    }


def test_events_never_fall_into_another_hospital_stay(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [
        {"patientunitstayid": 22, "treatmentoffset": offset, "treatmentstring": f"t{offset}"}
        for offset in (-99_999_999, 10, 99_999_999)
    ]
    write_table(tables, "treatment", rows)
    summary = convert_eicu(tables, out)
    start = datetime(2015, 1, 1)
    assert minutes(out, BERT, "TREATMENT//", start) == [
        (0, "TREATMENT//t-99999999", None),
        (10, "TREATMENT//t10", None),
    ]
    assert summary["events_out_of_time"] == 1


def test_missing_and_wrong_tables_are_one_clear_line_and_leave_nothing(tmp_path: Path) -> None:
    src, out = tmp_path / "source", tmp_path / "out"
    with pytest.raises(UsageError, match="is no folder"):
        convert_eicu(src, out)
    src.mkdir()
    with pytest.raises(UsageError, match=r"patient\.csv or patient\.csv\.gz is missing"):
        convert_eicu(src, out)
    write_patients(src)
    (src / "allergy.csv").write_text("patientunitstayid,allergyenteredoffset\n11,5\n")
    with pytest.raises(UsageError, match=r"allergy\.csv: missing column 'allergyname'; got patientunitstayid"):
        convert_eicu(src, out)
    (src / "allergy.csv").write_text("patientunitstayid,allergyenteredoffset,allergyname\n11,5,x\n11,soon,secret\n")
    with pytest.raises(
        UsageError, match=r"allergy\.csv: row 3: column 'allergyenteredoffset' must be integer"
    ) as caught:
        convert_eicu(src, out)
    assert "secret" not in str(caught.value)
    assert "soon" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_wrong_type_is_named_by_its_own_column_wherever_that_stands(tables: Path, tmp_path: Path) -> None:
    (tables / "allergy.csv").write_text("other,allergyname,allergyenteredoffset,patientunitstayid\nx,a,soon,11\n")
    with pytest.raises(UsageError, match=r"allergy\.csv: row 2: column 'allergyenteredoffset' must be integer"):
        convert_eicu(tables, tmp_path / "out")


def test_damaged_archive_and_repeated_stay_are_named(tables: Path, tmp_path: Path) -> None:
    path = write_table(
        tables,
        "allergy",
        [{"patientunitstayid": 11, "allergyenteredoffset": i, "allergyname": f"a{i}"} for i in range(999)],
    )
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"allergy\.csv\.gz"):
        convert_eicu(tables, tmp_path / "out")
    path.unlink()
    text = (tables / "patient.csv").read_text()
    (tables / "patient.csv").write_text(text + text.splitlines()[-1] + "\n")
    with pytest.raises(UsageError, match=r"patient\.csv: row 9: 'patientunitstayid' repeats a unit stay"):
        convert_eicu(tables, tmp_path / "out")


def test_an_existing_folder_is_kept_unless_told_otherwise(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="exists"):
        convert_eicu(tables, out)
    with pytest.raises(UsageError, match=r"out is no data folder .* and --overwrite replaces nothing else"):
        convert_eicu(tables, out, overwrite=True)
    assert (out / "mine.txt").read_text() == "keep"
    convert_eicu(tables, tmp_path / "data")
    (tmp_path / "data" / "mine.txt").write_text("gone")
    convert_eicu(tables, tmp_path / "data", overwrite=True)
    assert not (tmp_path / "data" / "mine.txt").exists()


def test_same_source_gives_the_same_folder_whatever_the_shards(tables: Path, tmp_path: Path) -> None:
    convert_eicu(tables, tmp_path / "one")
    convert_eicu(tables, tmp_path / "two", patients_per_shard=1)
    assert len(list((tmp_path / "two" / "data").glob("*.parquet"))) == 3
    assert events(tmp_path / "one").equals(events(tmp_path / "two"))
    names = ("metadata/codes.parquet", "metadata/subject_splits.parquet", "labels/hospital_mortality.parquet")
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)


@settings(max_examples=25, deadline=None)
@given(
    st.from_regex(r"[A-TV-Z][0-9][0-9](\.[0-9]{1,4})?", fullmatch=True)
    | st.from_regex(r"[0-9]{3}(\.[0-9]{1,2})?", fullmatch=True)
)
def test_every_icd_code_climbs_to_an_end(text: str) -> None:
    code, steps = icd_code(text), 0
    while code is not None:
        code, steps = icd_parent(code), steps + 1
    assert 1 <= steps <= 8


def test_icd_blocks_and_chapters() -> None:
    climb = ["ICD9CM//428.23"]
    while (above := icd_parent(climb[-1])) is not None:
        climb.append(above)
    assert climb == ["ICD9CM//428.23", "ICD9CM//428.2", "ICD9CM//428", "ICD9CM//420-429", "ICD9CM//390-459"]
    assert icd_parent("ICD9CM//V45") == "ICD9CM//V01-V91"
    assert icd_parent("ICD10CM//W06") == "ICD10CM//W00-W19"
    assert icd_parent("ICD10CM//W00-W19") == "ICD10CM//V00-Y99"
    assert icd_parent("ICD9PROC//31.1") == "ICD9PROC//31"


def test_phrases_and_drug_names() -> None:
    assert phrase("notes/Shared/View and Save/Save Options/Print/Copies/Copies", "Copies", "1") is None
    assert (
        phrase(
            "notes/Progress Notes/Family History Obtain Options/Not Significant", "Not Significant", "NotSignificant"
        )
        == "Family History Obtain Options: Not Significant"
    )
    names = [
        "SODIUM CHLORIDE 0.9 % IV : 1000 ML",
        "ASPIRIN EC 81 MG PO TBEC",
        "Norepinephrine (mcg/min)",
        "500 ML  -  DEXTROSE 5 % IV",
    ]
    assert pl.DataFrame({"n": names}).select(drug_name(pl.col("n"))).to_series().to_list() == [
        "sodium chloride",
        "aspirin ec",
        "norepinephrine",
        "dextrose",
    ]
