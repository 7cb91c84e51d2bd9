"""The open eICU demo, where it is there: counts, times, splits."""

from __future__ import annotations

import csv
import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_eicu import (
    ANNA,
    BERT,
    events,
    tables,  # noqa: F401 - fixtures
    write_table,
)

from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.data_config import DataConfig
from experiments.sources.eicu import convert_eicu
from fusion.component import UsageError


@pytest.fixture(scope="session")
def demo(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("eicu") / "data"
    return out, convert_eicu(shared_data / "eicu-demo", out, patients_per_shard=1000)


def test_demo_counts_are_those_of_the_release(demo: tuple[Path, dict[str, Any]]) -> None:
    out, summary = demo
    wanted = {"patients": 1841, "hospital_stays": 2174, "unit_stays": 2520, "hospitals": 186, "died_in_hospital": 212}
    assert {name: summary[name] for name in wanted} == wanted
    assert summary["missing_tables"] == ["lab", "vitalPeriodic", "nurseCharting"]
    table = events(out)
    assert table["subject_id"].n_unique() == 1841
    assert table.filter(pl.col("code") == "MEDS_DEATH").height == 182
    assert table.filter(pl.col("code").str.starts_with("DX//"))["code"].n_unique() == 1091
    assert table.filter(pl.col("code").str.starts_with("ICD"))["code"].n_unique() == 835


def test_demo_every_row_is_an_event_or_left_out_for_a_reason(
    demo: tuple[Path, dict[str, Any]], shared_data: Path
) -> None:
    out, summary = demo
    plain = {}
    for path in (shared_data / "eicu-demo").glob("*.csv.gz"):
        with gzip.open(path, "rt", newline="") as file:
            plain[path.name.partition(".")[0].lower()] = sum(1 for _ in csv.reader(file)) - 1
    tables = dict(summary["tables"])
    for name, each in tables.items():
        assert each["facts"] == each["events"] + sum(each["left_out"].values()), name
        assert each["facts"] >= each["rows"]
    assert sum(each["events"] for each in tables.values()) == summary["events"] == events(out).height
    hourly = tables.pop("yaib")  # from the folder beside
    assert hourly["events"] > 0
    rows = {name.lower(): each["rows"] for name, each in tables.items() if name != "several tables"}
    assert rows == plain
    assert plain["diagnosis"] == 24978


def test_demo_is_valid_meds(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    shards = sorted((out / "data").glob("*.parquet"))
    assert len(shards) == 2
    owners: list[set[int]] = []
    for shard in shards:
        table = pq.read_table(shard)
        meds.DataSchema.validate(table)
        frame = pl.read_parquet(shard)
        assert frame.select("subject_id", "time").equals(frame.select("subject_id", "time").sort("subject_id", "time"))
        owners.append(set(frame["subject_id"].unique()))
    assert not owners[0] & owners[1]
    meds.CodeMetadataSchema.validate(pq.read_table(out / "metadata" / "codes.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(out / "metadata" / "subject_splits.parquet"))
    for path in (out / "labels").glob("*.parquet"):
        meds.LabelSchema.validate(pq.read_table(path))
    meds.DatasetMetadataSchema.validate(json.loads((out / "metadata" / "dataset.json").read_text()))


def test_demo_outcomes_lie_after_every_prediction(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    table = events(out)
    for path in (out / "labels").glob("*.parquet"):
        labels = pl.read_parquet(path)
        assert labels["subject_id"].is_in(table["subject_id"].unique().to_list()).all()
        assert not labels.select("subject_id", "prediction_time").is_duplicated().any()
        before = labels.join(table, on="subject_id").filter(pl.col("time") <= pl.col("prediction_time"))
        assert before.filter(pl.col("code") == "MEDS_DEATH").is_empty()
        assert before.filter(pl.col("code") == "UNIT_DISCHARGE//Death").is_empty()
        assert before.filter(pl.col("code") == "HOSPITAL_DISCHARGE//Death").is_empty()


def test_demo_death_follows_the_prediction_where_the_label_says_so(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    labels = pl.read_parquet(out / "labels" / "hospital_mortality.parquet")
    deaths = events(out, prefix="MEDS_DEATH").select("subject_id", death="time")
    died = (
        labels.filter("boolean_value").join(deaths, on="subject_id").filter(pl.col("death") > pl.col("prediction_time"))
    )
    assert died.select("subject_id", "prediction_time").n_unique() == labels["boolean_value"].sum()


def test_demo_cohort_flow_adds_up(demo: tuple[Path, dict[str, Any]]) -> None:
    out, _ = demo
    for name, steps in json.loads((out / "cohort.json").read_text())["labels"].items():
        labels = pl.read_parquet(out / "labels" / f"{name}.parquet")
        assert steps[0]["n"] == 2520
        assert steps[-1]["n"] == labels.height
        assert steps[-1]["positive"] == labels["boolean_value"].sum()
        for before, after in pairwise(steps):
            assert before["n"] - after.get("left_out", 0) == after["n"]


def test_tables_that_hold_outcomes_are_not_read(tables: Path, tmp_path: Path) -> None:
    convert_eicu(tables, tmp_path / "without")
    for name in ("apachePatientResult", "apachePredVar"):
        write_table(tables, name, [{"patientunitstayid": 11, "predictedhospitalmortality": 0.9, "day1meds": 1}])
    convert_eicu(tables, tmp_path / "with")
    assert events(tmp_path / "with").equals(events(tmp_path / "without"))


def test_demo_reads_as_a_cohort_and_nobody_is_left_out_for_lacking_a_modality(
    demo: tuple[Path, dict[str, Any]],
) -> None:
    out, summary = demo
    dataset = open_dataset(out)
    for name in ("hospital_mortality", "unit_stay_over_3_days"):
        cohort = load_cohort(dataset, DataConfig(folder=out, labels=name))
        assert len(cohort.targets) == summary["labels"][name][-1]["n"]
        assert cohort.targets.sum() == summary["labels"][name][-1]["positive"]
    records = [record for _, record in iterate_records(dataset, cohort.subject_ids, cohort.prediction_times)]
    assert len(records) == len(cohort.targets)
    assert all(len(record.codes.codes) for record in records)
    assert 0 < sum(not record.notes for record in records) < len(records) / 2
    assert max(note.text.count("\n") for record in records for note in record.notes) > 5


def test_demo_splits_are_by_patient(demo: tuple[Path, dict[str, Any]], shared_data: Path) -> None:
    out, summary = demo
    splits = pl.read_parquet(out / "metadata" / "subject_splits.parquet")
    assert splits["subject_id"].is_unique().all()
    assert splits.height == 1841
    assert summary["splits"] == {"train": 1289, "tuning": 276, "held_out": 276}
    patients = pl.read_csv(shared_data / "eicu-demo" / "patient.csv.gz")["uniquepid"]
    text = (out / "README.md").read_text() + (out / "cohort.json").read_text()
    assert not any(patient in text for patient in patients.to_list())


def test_demo_split_by_site_keeps_hospitals_together(tables: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert_eicu(tables, out, split_by="site")
    splits = dict(pl.read_parquet(out / "metadata" / "subject_splits.parquet").iter_rows())
    assert splits[ANNA] == splits[BERT]
    with pytest.raises(UsageError, match="split_by must be 'patient' or 'site'; got 'ward'"):
        convert_eicu(tables, tmp_path / "other", split_by="ward")  # type: ignore[arg-type]


def test_demo_notes_are_dated_by_entry(demo: tuple[Path, dict[str, Any]], shared_data: Path) -> None:
    """Every note of a patient with one stay lies at an entry, counted from the unit admission event.

    Not every entry makes a note: a form of which only buttons were pressed is none.
    """
    out, _ = demo
    read = {
        name: pl.read_csv(shared_data / "eicu-demo" / f"{name}.csv.gz", infer_schema_length=None)
        for name in ("patient", "note")
    }
    alone = read["patient"].filter(pl.col("uniquepid").is_unique())
    rank = read["patient"].select("uniquepid", subject_id=pl.col("uniquepid").rank("dense").cast(pl.Int64)).unique()
    alone = alone.join(rank, on="uniquepid").select("subject_id", "patientunitstayid", "hospitaladmitoffset")
    entered = read["note"].join(alone, on="patientunitstayid")
    floor = pl.min_horizontal("hospitaladmitoffset", pl.lit(0))
    wanted = entered.select("subject_id", offset=pl.max_horizontal("noteenteredoffset", floor)).unique()
    admitted = events(out, prefix="UNIT_ADMISSION").select("subject_id", admitted="time")
    notes = events(out, prefix="NOTE//").filter(pl.col("code") != "NOTE//past_history").join(admitted, on="subject_id")
    notes = notes.filter(pl.col("subject_id").is_in(alone["subject_id"].to_list()))
    found = notes.select("subject_id", offset=(pl.col("time") - pl.col("admitted")).dt.total_minutes()).unique()
    assert found.height > 2000
    assert found.join(wanted, on=["subject_id", "offset"], how="anti").is_empty()
    assert notes["text_value"].str.contains("\n", literal=True).all()
