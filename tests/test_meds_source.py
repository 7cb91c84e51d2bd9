"""Any MEDS dataset: used in place where the reader takes it as it is, copied in one form otherwise."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.cli import main
from experiments.data.check import check
from experiments.sources.meds import convert_meds, use_in_place
from fusion.component import UsageError

NOON = datetime(2020, 1, 1, 12)
LONG = "The patient was seen. " * 20
SPLITS = {1: "train", 2: "train", 3: "tuning", 4: "held_out"}


def rows(subject: int) -> list[tuple[Any, ...]]:
    """Return a patient's events as MEDS ETLs write them: subject, time, code, number, text, and an id of the source."""
    day = NOON.replace(day=subject + 1)
    return [
        (subject, None, "GENDER//F", None, None, None),
        (subject, NOON, "DIAGNOSIS//ICD//10//I5023", None, None, 7),
        (subject, NOON, "PROCEDURE//ICD//9//3605", None, None, 7),
        (subject, day, "ICD10CM/I10", None, None, 7),
        (subject, day, "LAB//50912//mg/dL", 1.5, None, 7),
        (subject, day, "LOINC/11506-3", None, LONG, 7),
    ]


def write_meds(folder: Path, unit: str = "us", *, zone: str | None = None, odd: bool = False) -> Path:
    """Write four patients in nested shards; with odd types and columns of a real ETL if asked to."""
    names = ["subject_id", "time", "code", "numeric_value", "text_value", "hadm_id"]
    for shard, subjects in (("train/0", (1, 2)), ("tuning/0", (3,)), ("held_out/0", (4,))):
        columns = dict(zip(names, zip(*[row for who in subjects for row in rows(who)], strict=True), strict=True))
        kinds: dict[str, Any] = {"subject_id": pa.int64(), "time": pa.timestamp(unit, zone), "code": pa.string()}
        kinds |= {"numeric_value": pa.float32(), "text_value": pa.large_string(), "hadm_id": pa.int64()}
        table = pa.table({name: pa.array(columns[name], kinds[name]) for name in names})
        if odd:
            table = table.set_column(2, "code", table["code"].dictionary_encode())
            table = table.set_column(0, "subject_id", table["subject_id"].cast(pa.int32())).drop(["numeric_value"])
        path = folder / "data" / f"{shard}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
    metadata = folder / "metadata"
    metadata.mkdir()
    pl.DataFrame({"subject_id": list(SPLITS), "split": list(SPLITS.values())}).write_parquet(
        metadata / "subject_splits.parquet"
    )
    parents = {"DIAGNOSIS//ICD//10//I5023": ["ICD10CM/I50.23"], "LAB//50912//mg/dL": ["LOINC/2160-0"]}
    described = {
        "code": list(parents),
        "description": ["acute on chronic", None],
        "parent_codes": list(parents.values()),
    }
    pl.DataFrame(described).write_parquet(metadata / "codes.parquet")
    about = {"dataset_name": "MIMIC-IV", "meds_version": "0.3.3", "license": "theirs"}
    (metadata / "dataset.json").write_text(json.dumps(about))
    return folder


def write_labels(path: Path, subjects: tuple[int, ...] = (1, 2, 3, 4), **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"subject_id": subjects, "prediction_time": [NOON] * len(subjects)}
    columns |= {"boolean_value": [bool(who % 2) for who in subjects]} | more
    pl.DataFrame(columns).write_parquet(path)
    return path


def events(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(file) for file in sorted((folder / "data").rglob("*.parquet"))])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize(("unit", "zone", "odd"), [("us", None, False), ("ns", None, False), ("ms", "UTC", True)])
def test_in_place_only_what_is_missing_is_added(tmp_path: Path, unit: str, zone: str | None, odd: bool) -> None:
    source = write_meds(tmp_path / "source", unit, zone=zone, odd=odd)
    before = snapshot(source)
    summary = use_in_place(source, labels=[write_labels(tmp_path / "died.parquet")])
    assert summary["added"] == ["labels/died.parquet"]
    assert (summary["patients"], summary["spelled_differently"]) == (4, 3)
    after = snapshot(source)
    assert set(after) - set(before) == {"labels/died.parquet", "cohort.json"}
    assert {name: after[name] for name in before} == before
    found = check(source)
    assert (found.patients, found.events) == (4, 24)
    assert next(iter(found.labels)) == "labels/died.parquet"


def test_in_place_makes_splits_where_there_are_none_and_touches_no_label(tmp_path: Path) -> None:
    source, label = write_meds(tmp_path / "source"), write_labels(tmp_path / "died.parquet")
    (source / "metadata" / "subject_splits.parquet").unlink()
    assert use_in_place(source, labels=[label])["added"] == ["metadata/subject_splits.parquet", "labels/died.parquet"]
    assert set(pl.read_parquet(source / "metadata" / "subject_splits.parquet")["split"]) == set(SPLITS.values())
    before = snapshot(source)
    with pytest.raises(UsageError, match=r"died\.parquet exists; give the label another name or say --overwrite"):
        use_in_place(source, labels=[label])
    assert snapshot(source) == before
    assert use_in_place(source, labels=[label], overwrite=True)["added"] == ["labels/died.parquet"]


def test_in_place_refuses_a_patient_in_two_files(tmp_path: Path) -> None:
    source = write_meds(tmp_path / "source")
    (source / "data" / "more.parquet").write_bytes((source / "data" / "tuning" / "0.parquet").read_bytes())
    with pytest.raises(
        UsageError, match=r"0\.parquet: 1 patients are in an earlier file too; name a folder for a copy"
    ):
        use_in_place(source)
    summary = convert_meds(source, tmp_path / "out")
    assert summary["tables"]["events"]["left_out"] == {"says what another row says": 6}


@pytest.mark.parametrize(("unit", "zone", "odd"), [("us", None, False), ("ns", "Europe/Berlin", True)])
def test_a_copy_has_one_form(tmp_path: Path, unit: str, zone: str | None, odd: bool) -> None:
    source = write_meds(tmp_path / "source", unit, zone=zone, odd=odd)
    summary = convert_meds(
        source, tmp_path / "out", notes="^LOINC/115", labels=[write_labels(tmp_path / "died.parquet")]
    )
    table = events(tmp_path / "out")
    mine = table.filter(pl.col("subject_id") == 1)
    assert mine["code"].to_list() == [
        "GENDER//F",
        "ICD10CM//I50.23",
        "ICD9PROC//36.05",
        "ICD10CM//I10",
        "LAB//50912//mg/dL",
        "NOTE//LOINC/11506-3",
    ]
    assert mine["time"].to_list() == [None, NOON, NOON, *[NOON.replace(day=2)] * 3]
    assert mine["numeric_value"].to_list()[4] == (None if odd else 1.5)
    assert mine["text_value"].to_list()[5] == LONG
    assert summary["tables"]["events"] == {"rows": 24, "facts": 24, "events": 24, "left_out": {}}
    assert summary["unused"] == ["hadm_id"]
    assert (summary["splits_kept"], summary["splits"]) == (True, {"train": 2, "tuning": 1, "held_out": 1})
    assert summary["labels"]["died"][-1] == {"step": "predicted", "n": 4, "patients": 4, "positive": 2}
    for path in (tmp_path / "out" / "data").glob("*.parquet"):
        meds.DataSchema.validate(pq.read_table(path))
    meds.LabelSchema.validate(pq.read_table(tmp_path / "out" / "labels" / "died.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(tmp_path / "out" / "metadata" / "codes.parquet"))
    about = json.loads((tmp_path / "out" / "metadata" / "dataset.json").read_text())
    meds.DatasetMetadataSchema.validate(about)
    assert (about["dataset_name"], about["license"], about["meds_version"]) == ("MIMIC-IV", "theirs", "0.4.1")


def test_codes_keep_what_they_mean_under_their_new_spelling(tmp_path: Path) -> None:
    convert_meds(write_meds(tmp_path / "source"), tmp_path / "out")
    table = {row[0]: row[1:] for row in pl.read_parquet(tmp_path / "out" / "metadata" / "codes.parquet").rows()}
    assert table["ICD10CM//I50.23"] == ("acute on chronic", ["ICD10CM//I50.2"])
    assert table["LAB//50912//mg/dL"] == (None, ["LOINC/2160-0"])
    assert "ICD10CM//I00-I99" in table


def test_rows_without_patient_or_code_and_births_after_death_are_counted(tmp_path: Path) -> None:
    source = write_meds(tmp_path / "source")
    wrong = [(None, NOON, "a"), (9, NOON, None), (9, NOON, "MEDS_DEATH"), (9, NOON.replace(year=2021), "MEDS_BIRTH")]
    table = pl.DataFrame(
        wrong, schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}, orient="row"
    )
    table.write_parquet(source / "data" / "wrong.parquet")
    found = convert_meds(source, tmp_path / "out")["tables"]["events"]
    assert found["left_out"] == {"no patient": 1, "no code": 1, "birth after death": 1}
    assert found["facts"] == found["events"] + 3 == 28


def test_labels_may_be_shards_and_must_agree(tmp_path: Path) -> None:
    source = write_meds(tmp_path / "source")
    write_labels(tmp_path / "task" / "train" / "0.parquet", (1, 2))
    write_labels(tmp_path / "task" / "test.parquet", (3, 4, 99), float_value=[None] * 3)
    flow = convert_meds(source, tmp_path / "out", labels=[tmp_path / "task"])["labels"]["task"]
    assert [(step["step"], step["n"]) for step in flow][-2:] == [("of patients of the dataset", 4), ("predicted", 4)]
    twice = write_labels(tmp_path / "twice.parquet", (1, 1), boolean_value=[True, False])
    with pytest.raises(UsageError, match=r"twice\.parquet: row 1: contradicts an earlier row"):
        convert_meds(source, tmp_path / "other", labels=[twice])
    strangers = write_labels(tmp_path / "strangers.parquet", (98, 99))
    with pytest.raises(UsageError, match=r"strangers\.parquet: none of its patients is in the dataset"):
        convert_meds(source, tmp_path / "other", labels=[strangers])
    with pytest.raises(UsageError, match=r"none: no label there; wanted a parquet file"):
        use_in_place(source, labels=[tmp_path / "none"])


def test_bad_files_are_named(tmp_path: Path) -> None:
    source = write_meds(tmp_path / "source")
    shard = source / "data" / "train" / "0.parquet"
    whole = shard.read_bytes()
    pl.read_parquet(shard).rename({"code": "codes"}).write_parquet(shard)
    with pytest.raises(UsageError, match=r"train/0\.parquet: unknown column 'code'; did you mean 'codes'\?"):
        convert_meds(source, tmp_path / "out")
    shard.write_bytes(whole[:-20])
    for use in (lambda: convert_meds(source, tmp_path / "out"), lambda: use_in_place(source)):
        with pytest.raises(UsageError, match=r"train/0\.parquet: not readable as parquet"):
            use()
    shard.write_bytes(whole)
    pl.DataFrame({"subject_id": [1], "split": ["test"]}).write_parquet(source / "metadata" / "subject_splits.parquet")
    with pytest.raises(UsageError, match="unknown split 'test'"):
        convert_meds(source, tmp_path / "out")
    with pytest.raises(UsageError, match="notes: no regular expression"):
        convert_meds(source, tmp_path / "out", notes="(")
    assert not (tmp_path / "out").exists()


def test_the_command_adds_or_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, label = write_meds(tmp_path / "source"), write_labels(tmp_path / "died.parquet")
    assert main(["data", "meds", str(source), "--labels", str(label)]) == 0
    shown = capsys.readouterr().out
    assert "4 patients, 6 codes: can be used as it is" in shown
    assert "added: labels/died.parquet\n3 ICD codes are spelled like DIAGNOSIS//ICD//10//I5023" in shown
    assert main(["data", "meds", str(source), str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "4 long texts of LOINC/11506-3 are no notes here; --note-codes would make them some" in shown
    assert "columns that are not in the copy: hadm_id" in shown
    assert (tmp_path / "out" / "labels" / "died.parquet").is_file()
    assert main(["data", "meds", str(source), "--note-codes", "x"]) == 2
