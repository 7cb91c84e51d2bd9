"""Labels and splits: who is predicted, when, with what truth; a patient is in one split, the same one every time."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from experiments.data.cohort import Cohort, label_kind, load_cohort
from experiments.data.folder import Dataset, open_dataset
from experiments.data_config import DataConfig, SplitConfig
from experiments.sources.folder import write_dataset, write_splits, write_table
from fusion import UsageError

START = datetime(2020, 1, 1)
PATIENTS = 60


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Sixty patients, each at one of five sites and predicted twice; the folder has splits."""
    for name in ("data", "labels", "metadata"):
        (tmp_path / name).mkdir()
    subjects = list(range(1, PATIENTS + 1))
    events = {
        "subject_id": subjects,
        "time": [START] * PATIENTS,
        "code": ["A"] * PATIENTS,
        "site": [f"site {each % 5}" for each in subjects],
    }
    write_table(pl.DataFrame(events), tmp_path / "data" / "0.parquet")
    names = ["train"] * 40 + ["tuning"] * 10 + ["held_out"] * 10
    write_splits(tmp_path, pl.DataFrame({"subject_id": subjects, "split": names}))
    write_dataset(tmp_path, site_id_columns=["site"])
    write_labels(tmp_path, "boolean_value", [each % 7 < 2 for each in range(2 * PATIENTS)])
    return open_dataset(tmp_path)


def keys() -> pl.DataFrame:
    """Every patient at two times; patient n is first predicted on day n."""
    rows = [(each, START + timedelta(days=each + 100 * late)) for each in range(1, PATIENTS + 1) for late in (0, 1)]
    return pl.DataFrame(rows, schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")}, orient="row")


def write_labels(folder: Path, column: str, values: Any, name: str = "outcome") -> None:
    path = folder / "labels" / f"{name}.parquet"
    path.parent.mkdir(exist_ok=True)
    keys().with_columns(pl.Series(column, values)).write_parquet(path)


def load(dataset: Dataset, **options: Any) -> Cohort:
    return load_cohort(dataset, DataConfig(folder=dataset.folder, **options))


def by(kind: Any, **options: Any) -> dict[str, SplitConfig]:
    return {"splits": SplitConfig(by=kind, **options)}


# --- labels ---


def test_binary_labels(dataset: Dataset) -> None:
    cohort = load(dataset)
    assert (cohort.task.kind, cohort.task.outputs) == ("binary", 1)
    assert cohort.targets.tolist() == [each % 7 < 2 for each in range(2 * PATIENTS)]
    assert cohort.counts()["train"] == {"predictions": 80, "patients": 40, "positives": 24}


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("categorical_value", ["mild", "none", "severe"], pl.String),
        ("categorical_value", ["mild", "none", "severe"], pl.Categorical),
        ("integer_value", [1, 7, 10], pl.Int64),
    ],
)
def test_classes_are_in_order_whatever_the_rows(dataset: Dataset, column: str, values: list[Any], kind: Any) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 3, 2 * PATIENTS)
    write_labels(dataset.folder, column, pl.Series([values[each] for each in drawn]).cast(kind))
    cohort = load(dataset)
    assert (cohort.task.kind, list(cohort.task.names)) == ("multiclass", [str(each) for each in values])
    np.testing.assert_array_equal(cohort.targets, drawn)


def test_regression_is_scaled_by_the_training_patients_only(dataset: Dataset) -> None:
    values = np.where(np.arange(2 * PATIENTS) < 80, np.arange(2 * PATIENTS), 1e6).astype(float)
    write_labels(dataset.folder, "float_value", values)
    task = load(dataset).task
    assert (task.kind, task.center) == ("regression", pytest.approx(39.5))
    assert task.scale == pytest.approx(np.arange(80).std())


def test_a_folder_of_labels_is_a_multilabel_task(dataset: Dataset) -> None:
    for name, every in (("b", 2), ("a", 3)):
        write_labels(dataset.folder, "boolean_value", [each % every == 0 for each in range(120)], f"both/{name}")
    cohort = load(dataset, labels="both")
    assert (cohort.task.kind, cohort.task.names, cohort.targets.shape) == ("multilabel", ("a", "b"), (120, 2))
    assert cohort.targets[:4].tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert label_kind(dataset, "both") == "multilabel"


def test_labels_of_a_multilabel_task_must_agree_on_the_rows(dataset: Dataset) -> None:
    for name in ("a", "b"):
        write_labels(dataset.folder, "boolean_value", [True, False] * PATIENTS, f"both/{name}")
    path = dataset.folder / "labels" / "both" / "b.parquet"
    pl.read_parquet(path)[1:].write_parquet(path)
    with pytest.raises(UsageError, match=r"b\.parquet: its patients and prediction times differ from those of a\."):
        load(dataset, labels="both")


def test_the_order_of_the_rows_does_not_matter(dataset: Dataset) -> None:
    first = load(dataset)
    path = dataset.label_path("outcome")
    pl.read_parquet(path).sample(fraction=1, shuffle=True, seed=1).write_parquet(path)
    again = load(dataset)
    assert (again.fingerprint, again.split_fingerprint) == (first.fingerprint, first.split_fingerprint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("prediction_time"), "missing column 'prediction_time'; got subject_id"),
        (lambda table: table.drop("boolean_value"), "expected exactly one of .*; got none"),
        (lambda table: table.with_columns(float_value=1.0), "expected exactly one of .*; got .*float_value"),
        (lambda table: table.with_columns(pl.col("subject_id").cast(pl.String)), "'subject_id' must be int64"),
        (lambda table: table.with_columns(pl.col("prediction_time").cast(pl.Int64)), "must be a timestamp; got Int64"),
        (lambda table: table.with_columns(pl.col("boolean_value").cast(pl.String)), "outside its kind"),
        (
            lambda table: table.with_columns(pl.when(pl.col("subject_id") != 2).then("boolean_value")),
            "row 2: boolean_value is null",
        ),
        (lambda table: pl.concat([table, table[5:7]]), r"row 120: repeats .* \(2 rows do\)"),
        (lambda table: table.with_columns(boolean_value=True), "split 'train' has one class only"),
        (lambda table: table.filter(pl.col("subject_id") <= 50), "split 'held_out' is empty"),
        (lambda table: table.with_columns(pl.col("subject_id") + 1000), "60 labelled subjects have no split"),
    ],
)
def test_wrong_labels_are_refused_in_one_line(dataset: Dataset, change: Any, message: str) -> None:
    path = dataset.label_path("outcome")
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(UsageError, match=message) as error:
        load(dataset)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_target_must_be_finite(dataset: Dataset, value: float) -> None:
    write_labels(dataset.folder, "float_value", [*map(float, range(119)), value])
    with pytest.raises(UsageError, match="row 119: float_value is not finite"):
        load(dataset)


def test_a_label_that_is_not_there_names_the_nearest(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match="outcome"):
        load(dataset, labels="outcom")


def test_a_task_of_another_kind_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"data\.task is 'regression', but the labels are binary"):
        load(dataset, task="regression")


def test_a_file_that_is_no_parquet(dataset: Dataset) -> None:
    dataset.label_path("outcome").write_text("subject_id,label", encoding="utf-8")
    with pytest.raises(UsageError, match=r"outcome\.parquet: not readable as parquet"):
        load(dataset)


# --- splits ---


@pytest.mark.parametrize("kind", ["folder", "patient", "time", "site"])
def test_every_patient_is_in_one_split_and_none_is_lost(dataset: Dataset, kind: Any) -> None:
    cohort = load(dataset, **by(kind))
    people = [set(cohort.subject_ids[cohort.rows(split)].tolist()) for split in ("train", "tuning", "held_out")]
    assert sum(map(len, people)) == len(set.union(*people)) == PATIENTS
    assert all(people)


def test_patients_are_drawn_by_the_seed(dataset: Dataset) -> None:
    first, again, other = (load(dataset, **by("patient", seed=seed)) for seed in (1, 1, 2))
    assert first.split_fingerprint == again.split_fingerprint != other.split_fingerprint
    assert [first.counts()[each]["patients"] for each in ("train", "tuning", "held_out")] == [42, 9, 9]
    assert other.counts()["train"]["patients"] == 42
    wide = load(dataset, **by("patient", train=0.5, tuning=0.25)).counts()
    assert [wide[each]["patients"] for each in ("train", "tuning", "held_out")] == [30, 15, 15]


def test_by_time_the_future_is_held_out(dataset: Dataset) -> None:
    cohort = load(dataset, **by("time"))
    latest = {split: cohort.subject_ids[cohort.rows(split)] for split in ("train", "tuning", "held_out")}
    assert latest["train"].max() < latest["tuning"].min() <= latest["tuning"].max() < latest["held_out"].min()


def test_by_site_no_site_is_in_two_splits(dataset: Dataset) -> None:
    cohort = load(dataset, **by("site", train=0.6, tuning=0.2))
    sites = {split: set(cohort.subject_ids[cohort.rows(split)] % 5) for split in ("train", "tuning", "held_out")}
    assert {split: len(each) for split, each in sites.items()} == {"train": 3, "tuning": 1, "held_out": 1}
    assert len(set.union(*sites.values())) == 5


@pytest.mark.parametrize(("sites", "filled"), [(3, True), (2, False)])
def test_splits_by_few_sites(dataset: Dataset, sites: int, filled: bool) -> None:
    site = pl.format("site {}", pl.col("subject_id") % sites)
    pl.read_parquet(dataset.shards[0]).with_columns(site=site).write_parquet(dataset.shards[0])
    if filled:
        assert all(len(load(dataset, **by("site", seed=seed)).rows("held_out")) for seed in range(5))
    else:
        with pytest.raises(UsageError, match="there are 2 sites for 3 splits"):
            load(dataset, **by("site"))


def test_who_was_at_several_sites_belongs_to_the_first(dataset: Dataset) -> None:
    before = load(dataset, **by("site", train=0.6, tuning=0.2))
    first = pl.read_parquet(dataset.shards[0])
    later, latest = (
        first.with_columns(
            time=pl.col("time") + timedelta(days=days), site=pl.format("site {}", (pl.col("subject_id") + days) % 5)
        )
        for days in (1, 2)
    )
    visits = pl.concat([later, first, latest])  # not in the order of time
    visits.sort("subject_id", maintain_order=True).write_parquet(dataset.shards[0])
    for _ in range(5):  # a join in threads would show its order sooner or later
        assert load(dataset, **by("site", train=0.6, tuning=0.2)).split_fingerprint == before.split_fingerprint


def test_splits_by_site_need_a_site(dataset: Dataset) -> None:
    pl.read_parquet(dataset.shards[0]).drop("site").write_parquet(dataset.shards[0])
    with pytest.raises(UsageError, match=r"0\.parquet: missing column 'site', which metadata/dataset\.json declares"):
        load(dataset, **by("site"))
    (dataset.folder / "metadata" / "dataset.json").unlink()
    with pytest.raises(UsageError, match=r"declares no site_id_columns"):
        load(open_dataset(dataset.folder), **by("site"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: pl.concat([table, table[:3].with_columns(split=pl.lit("tuning"))]), "3 subjects are in more"),
        (lambda table: table.with_columns(pl.col("split").replace("tuning", "validation")), "split 'validation'"),
        (lambda table: table[2:], "2 labelled subjects have no split"),
    ],
)
def test_wrong_splits_of_a_folder_are_refused(dataset: Dataset, change: Any, message: str) -> None:
    path = dataset.folder / "metadata" / "subject_splits.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(UsageError, match=message):
        load(dataset)


def test_a_folder_without_splits_says_what_to_do(dataset: Dataset) -> None:
    (dataset.folder / "metadata" / "subject_splits.parquet").unlink()
    with pytest.raises(UsageError, match=r"is missing; write it, or choose data\.splits\.by: patient, time or site"):
        load(dataset)
    assert len(load(dataset, **by("patient")).subject_ids) == 120
