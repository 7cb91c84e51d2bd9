"""The open demos of MIMIC-III and MIMIC-IV, where they are there: every row accounted for, nothing known too early."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_eicu import events

from experiments.config import DataConfig
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.sources.mimic import convert_mimic
from experiments.sources.mimic.people import Version

Demo = tuple[Path, Path, dict[str, Any]]
NAMES: dict[Version, str] = {3: "mimic-iii-demo", 4: "mimic-iv-demo"}


@pytest.fixture(scope="module", params=[3, 4], ids=["mimic3", "mimic4"])
def demo(request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    src, out = shared_data / NAMES[request.param], tmp_path_factory.mktemp("mimic") / "data"
    return src, out, convert_mimic(src, out, request.param, patients_per_shard=60)


def plain_rows(src: Path) -> Iterator[tuple[str, int]]:
    """Count the rows of every table with nothing but the standard library's reader."""
    for path in [*src.glob("*.csv.gz"), *src.glob("*/*.csv.gz"), *src.glob("*.csv")]:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as file:
            yield path.name.lower().split(".")[0], sum(1 for _ in csv.reader(file)) - 1


def test_every_row_is_an_event_or_left_out_for_a_reason(demo: Demo) -> None:
    src, out, summary = demo
    tables = summary["tables"]
    assert {name: each["rows"] for name, each in tables.items()} == dict(plain_rows(src))
    for name, each in tables.items():
        assert each["facts"] == each["events"] + sum(each["left_out"].values()), name
        assert each["facts"] >= each["rows"]
    assert sum(each["events"] for each in tables.values()) == summary["events"] == events(out).height
    lines = list(csv.DictReader((out / "reconciliation.csv").read_text(encoding="utf-8").splitlines()))
    assert {line["table"]: int(line["n"]) for line in lines if line["what"] == "rows"} == dict(plain_rows(src))
    assert summary["patients"] == 100
    assert (summary["hospital_stays"], summary["unit_stays"]) in ((129, 136), (275, 140))


def test_it_is_valid_meds(demo: Demo) -> None:
    _, out, _ = demo
    shards = sorted((out / "data").glob("*.parquet"))
    assert len(shards) == 2
    for shard in shards:
        meds.DataSchema.validate(pq.read_table(shard))
    meds.CodeMetadataSchema.validate(pq.read_table(out / "metadata" / "codes.parquet"))
    meds.SubjectSplitSchema.validate(pq.read_table(out / "metadata" / "subject_splits.parquet"))
    for path in (out / "labels").glob("*.parquet"):
        meds.LabelSchema.validate(pq.read_table(path))


def test_outcomes_and_codes_of_the_stay_lie_after_the_prediction(demo: Demo) -> None:
    src, out, _ = demo
    path = next(path for path in [*src.rglob("*dmissions.csv.gz"), *src.rglob("ADMISSIONS.csv.gz")])
    stays = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True)
    stays = stays.select("subject_id", "admittime", gone=pl.max_horizontal("dischtime", "deathtime"))
    labels = pl.read_parquet(out / "labels" / "hospital_mortality.parquet")
    now = labels.join(stays, on="subject_id").filter(pl.col("prediction_time").is_between("admittime", "gone"))
    assert now.height >= labels.height
    seen = now.join(events(out), on="subject_id").filter(
        pl.col("time").is_between(pl.col("admittime"), pl.col("prediction_time"))
    )
    assert seen.filter(pl.col("code").str.contains("^(ICD|DRG|CPT|HCPCS|MEDS_DEATH|HOSPITAL_DISCHARGE)")).is_empty()
    died = labels.filter("boolean_value").join(events(out, prefix="MEDS_DEATH"), on="subject_id")
    assert died.height == labels["boolean_value"].sum()
    assert (died["time"] > died["prediction_time"]).all()


def test_cohort_flow_adds_up_and_nobody_lacks_events(demo: Demo) -> None:
    _, out, summary = demo
    for name, steps in json.loads((out / "cohort.json").read_text())["labels"].items():
        cohort = load_cohort(open_dataset(out), DataConfig(folder=out, labels=name))
        assert steps[0]["n"] == summary["unit_stays"]
        assert (steps[-1]["n"], steps[-1]["positive"]) == (len(cohort.targets), cohort.targets.sum())
        for before, after in pairwise(steps):
            assert before["n"] - after.get("left_out", 0) == after["n"]
    rows = iterate_records(open_dataset(out), cohort.subject_ids, cohort.prediction_times)
    ages = [record.codes.values[list(record.codes.codes).index("AGE")] for _, record in rows]
    assert len(ages) == len(cohort.targets)
    assert all(17.9 < age < 105 for age in ages)
