"""A hospital's own tables: every row is an event or is counted with the reason, at the time it was known."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import meds
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_tabular import events, write_ward

from experiments.cli import main
from experiments.data.check import check
from experiments.sources.tabular import Mapping, convert_tables, load_mapping, mapping_schema


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The ward's folder and summary."""
    folder = tmp_path_factory.mktemp("ward")
    return folder / "out", convert_tables(write_ward(folder / "source"), folder / "out")


def test_laboratory_values_count_from_their_report_in_utc(ward: tuple[Path, dict]) -> None:
    assert events(ward[0], "LAB//") == [
        (1, datetime(2024, 1, 5, 10, 30), "LAB//Krea", pytest.approx(1.2), "mg/dl"),
        (1, datetime(2024, 1, 5, 11, 0), "LAB//Na", 1140.5, "mmol/l"),
    ]


def test_dates_count_from_the_end_of_their_day_and_offsets_are_their_own(ward: tuple[Path, dict]) -> None:
    assert [(who, when) for who, when, *_ in events(ward[0], "ADMISSION//A")] == [(1, datetime(2024, 1, 5, 22, 59, 59))]
    assert [(who, when, code) for who, when, code, *_ in events(ward[0], "ICD10CM//")] == [
        (1, datetime(2024, 1, 8, 9), "ICD10CM//I50.23"),
        (3, datetime(2024, 1, 7, 9), "ICD10CM//K00"),
    ]


def test_every_row_is_an_event_or_counted_with_the_reason(ward: tuple[Path, dict]) -> None:
    tables = ward[1]["tables"]
    assert {name: (each["rows"], each["events"], each["left_out"]) for name, each in tables.items()} == {
        "labs.csv": (
            8,
            2,
            {
                "says what another row says": 1,
                "no readable number in result": 1,
                "no numeric value": 1,
                "no readable time in taken": 1,
                "no patient": 1,
                "no code": 1,
            },
        ),
        "stays.csv": (3, 3, {}),
        "stays.csv (2)": (3, 2, {"went before came": 1}),
        "notes.csv": (2, 1, {"no text": 1}),
        "images.csv": (3, 1, {"the image is not in the folder": 2}),
    }
    assert all(each["facts"] == each["events"] + sum(each["left_out"].values()) for each in tables.values())
    assert ward[1]["events"] == sum(each["events"] for each in tables.values()) == len(events(ward[0]))
    lines = (ward[0] / "reconciliation.csv").read_text(encoding="utf-8").splitlines()
    assert "stays.csv (2),left out: went before came,1" in lines


def test_notes_and_images_join_by_patient_and_time(ward: tuple[Path, dict]) -> None:
    table = pl.read_parquet(ward[0] / "data" / "*.parquet")
    note = table.filter(pl.col("text_value").is_not_null())
    assert note.select("code", "text_value").rows() == [("NOTE//nurse_s_round", "slept well")]
    image = table.filter(pl.col("image_path").is_not_null())
    assert image.select("subject_id", "image_path", "view").rows() == [(1, "images/0000001.png", "PA")]
    assert [each.name for each in (ward[0] / "images").iterdir()] == ["0000001.png"]  # not the one outside


def test_labels_have_a_flow_and_a_date_is_the_days_first_moment(ward: tuple[Path, dict]) -> None:
    rows = pl.read_parquet(ward[0] / "labels" / "died.parquet").rows()
    assert rows == [
        (1, datetime(2024, 1, 6, 23), False),
        (2, datetime(2024, 1, 7, 11), True),
        (4, datetime(2024, 1, 8, 11), True),
    ]
    steps = ward[1]["labels"]["died"]
    assert [(step["n"], step.get("left_out", 0)) for step in steps] == [(5, 0), (4, 1), (3, 1), (3, 0)]
    assert steps[-1]["positive"] == 2
    assert json.loads((ward[0] / "cohort.json").read_text())["labels"]["died"] == steps


def test_texts_become_numbers_that_only_the_folder_explains(ward: tuple[Path, dict]) -> None:
    who = pl.read_parquet(ward[0] / "metadata" / "subjects.parquet").rows()
    assert who == [(1, "P1"), (2, "P2"), (3, "P3"), (4, "P4"), (5, "P5")]
    splits = pl.read_parquet(ward[0] / "metadata" / "subject_splits.parquet").rows()
    assert splits == [(1, "train"), (2, "held_out"), (3, "tuning"), (4, "train")]
    assert (ward[0].stat().st_mode & 0o777, (ward[0] / "cohort.json").stat().st_mode & 0o777) == (0o700, 0o600)


def test_output_passes_the_schemas_of_meds(ward: tuple[Path, dict]) -> None:
    for path in (ward[0] / "data").glob("*.parquet"):
        meds.DataSchema.validate(pq.read_table(path))
    meds.LabelSchema.validate(pq.read_table(ward[0] / "labels" / "died.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(ward[0] / "metadata" / "subject_splits.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(ward[0] / "metadata" / "codes.parquet"))
    meds.DatasetMetadataSchema.validate(json.loads((ward[0] / "metadata" / "dataset.json").read_text()))
    errors = [each.message for each in check(ward[0]).problems if each.severity == "error"]
    assert errors == ["split 'held_out' has one class only"]  # with one patient


def test_data_frames_stand_for_files(tmp_path: Path) -> None:
    mapping = Mapping.model_validate(
        {
            "name": "frames",
            "events": [
                {"file": "labs", "patient": "who", "time": "at", "code": "LAB//{test}", "value": "v", "unit": "mg"},
                {"file": "sexes", "patient": "who", "code": "GENDER//{sex}"},
            ],
        }
    )
    at = [datetime(2024, 1, 1, 10), datetime(2024, 1, 2, 10)]
    labs = pd.DataFrame({"who": [1.0, 2.0], "at": at, "test": ["a", "b"], "v": [1, 2]})
    sexes = pl.DataFrame({"who": [1, 2], "sex": ["F", None]}, schema_overrides={"sex": pl.Categorical})
    summary = convert_tables(mapping, tmp_path / "out", frames={"labs": labs, "sexes": sexes})
    assert events(tmp_path / "out") == [
        (1, None, "GENDER//F", None, None),
        (1, at[0], "LAB//a", 1, "mg"),
        (2, at[1], "LAB//b", 2, "mg"),
    ]
    assert summary["tables"]["sexes"]["left_out"] == {"no code": 1}
    assert summary["notes"] == {"labs: who: whole numbers written like 123.0": 2}


def test_a_parquet_file_says_the_same_as_csv(ward: tuple[Path, dict], tmp_path: Path) -> None:
    path = write_ward(tmp_path / "source")
    pl.read_csv(tmp_path / "source" / "notes.csv").write_parquet(tmp_path / "source" / "notes.parquet")
    path.write_text(path.read_text().replace("notes.csv", "notes.parquet"))
    convert_tables(path, tmp_path / "out")
    assert events(tmp_path / "out") == events(ward[0])


def test_births_after_death_are_counted(tmp_path: Path) -> None:
    rows = "pid,born,died\n1,2000-01-01,2020-01-01\n2,2020-01-01,2000-01-01\n"
    both = [
        {"file": "lives.csv", "patient": "pid", "time": when, "code": code}
        for when, code in (("born", "MEDS_BIRTH"), ("died", "MEDS_DEATH"))
    ]
    (tmp_path / "lives.csv").write_text(rows)
    mapping = Mapping.model_validate({"name": "lives", "source": str(tmp_path), "events": both})
    assert convert_tables(mapping, tmp_path / "out")["tables"]["lives.csv"]["left_out"] == {"birth after death": 1}


def test_the_command_says_where_rows_went_and_prints_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_ward(tmp_path / "source")
    assert main(["data", "table", str(path), str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "died: rows of died.csv 5; " in shown
    assert f"wrote {tmp_path / 'out'}: 5 patients, 9 events, 14 codes" in shown
    assert main(["data", "table", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(mapping_schema())
    assert main(["data", "table", str(path)]) == 2
    assert load_mapping(path).source == tmp_path / "source"
