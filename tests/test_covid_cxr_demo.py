"""The open COVID-19 image collection, where it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_covid import events, records, write_source

from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data_config import DataConfig
from experiments.sources.covid_cxr import convert_covid_cxr
from experiments.sources.finding_mask import FINDING, names_finding


@pytest.fixture(scope="session")
def collection(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("covid") / "data"
    return out, convert_covid_cxr(shared_data / "covid-chestxray", out)


def test_collection_has_the_counts_of_the_source(collection: tuple[Path, dict[str, Any]]) -> None:
    out, summary = collection
    assert (summary["patients"], summary["images"]) == (148, 249)
    images = events(out, "IMAGE//")
    assert images.height == 249
    assert all((out / path).is_file() for path in images["image_path"])
    told = summary["tables"]["metadata"]
    assert told["rows"] == 249
    assert told["facts"] == told["events"] + sum(told["left_out"].values())
    assert told["events"] == summary["events"] == events(out, "").height
    steps = summary["labels"]["covid19"]
    assert [step["n"] for step in steps] == [148, 148, 110, 103, 103]
    assert steps[-1]["positive"] == 67


def test_collection_is_valid_meds_with_both_labels_in_every_split(collection: tuple[Path, dict[str, Any]]) -> None:
    out, _ = collection
    meds.DataSchema.validate(pq.read_table(out / "data" / "00000.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(out / "metadata" / "codes.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(out / "metadata" / "subject_splits.parquet"))
    meds.LabelSchema.validate(pq.read_table(out / "labels" / "covid19.parquet"))
    about = json.loads((out / "metadata" / "dataset.json").read_text())
    meds.DatasetMetadataSchema.validate(about)
    assert open_dataset(out).image_column == "image_path"
    splits = pl.read_parquet(out / "metadata" / "subject_splits.parquet")
    assert splits["subject_id"].is_unique().all()
    labels = pl.read_parquet(out / "labels" / "covid19.parquet").join(splits, on="subject_id")
    assert labels.height == 103
    assert labels.group_by("split").agg(pl.col("boolean_value").n_unique())["boolean_value"].to_list() == [2, 2, 2]


def test_collection_reads_as_a_cohort_of_patients_who_all_have_an_image(
    collection: tuple[Path, dict[str, Any]],
) -> None:
    out, _ = collection
    cohort = load_cohort(open_dataset(out), DataConfig(folder=out, labels="covid19"))
    assert (len(cohort.targets), cohort.targets.sum()) == (103, 67)
    found = records(out)
    assert len(found) == 103
    assert all(record.images for record in found.values())


def test_the_seed_decides_the_splits(tmp_path: Path) -> None:
    rows = [
        {"patientid": f"{kind}{i}", "finding": kind, "filename": f"{kind}{i}.png", "clinical_notes": "Fever."}
        for kind in ("COVID-19", "Lipoid")
        for i in range(20)
    ]
    source = write_source(tmp_path / "many", rows)
    tables = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        convert_covid_cxr(source, tmp_path / name, seed=seed)
        tables.append(pl.read_parquet(tmp_path / name / "metadata" / "subject_splits.parquet"))
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert dict(tables[2].group_by("split").len().rows()) == {"train": 28, "tuning": 6, "held_out": 6}


def test_collection_notes_name_no_finding(collection: tuple[Path, dict[str, Any]]) -> None:
    out, _ = collection
    notes = events(out, "NOTE//")["text_value"].to_list()
    assert sum(FINDING in note for note in notes) > 50
    assert not any(names_finding(note) for note in notes)
    for word in ("covid", "sars", "corona", "pneumocystis", "klebsiella", "legionella", "radiopaedia", "courtesy"):
        assert not any(word in note.lower() for note in notes), word
