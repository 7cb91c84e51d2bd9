"""The raw-tabular control: its table by hand, every kind of task, and what it can and cannot know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from encoders.codes.counts import CodeCounts
from encoders.records import CodeEvents, Knowledge, Record
from experiments.config import parse_config
from experiments.controls import boosted_counts, plan
from experiments.data.store import Store
from experiments.metrics import METRICS, default_metric
from experiments.sources.synthetic import write_synthetic
from experiments.workspace import open_store
from fusion import UsageError

NAN = float("nan")


def record(*each: tuple[str, float]) -> Record:
    codes, values = zip(*each, strict=True)
    return Record(CodeEvents(codes, np.zeros(len(codes), np.float32), np.array(values, np.float32)))


FITTED = CodeCounts.fit(
    [record(("a", NAN), ("lab", 1.0)), record(("a", NAN), ("lab", 3.0), ("rare", NAN))], Knowledge()
)


def test_features_by_hand() -> None:
    assert (FITTED.codes, FITTED.valued, FITTED.width) == (("a", "lab"), ("lab",), 6)
    found = FITTED.encode(record(("lab", 5.0), ("a", NAN), ("lab", NAN), ("lab", 2.0), ("rare", 1.0)))
    assert found is not None
    np.testing.assert_array_equal(found["features"], [[1, 3, 2.0, 3.5, 2.0, 5.0]])


def test_a_code_without_values_here_has_none_and_a_patient_without_codes_is_absent() -> None:
    found = FITTED.encode(record(("lab", NAN)))
    assert found is not None
    np.testing.assert_array_equal(found["features"], [[0, 1, NAN, NAN, NAN, NAN]])
    assert FITTED.encode(Record()) is None


def test_the_most_frequent_codes_are_kept_where_columns_run_out() -> None:
    records = [record(("often", NAN), ("lab", 1.0))] * 3 + [record(("often", NAN), ("seldom", NAN))] * 2
    assert CodeCounts.fit(records, Knowledge(), max_columns=6).codes == ("lab", "often")
    assert CodeCounts.fit(records, Knowledge(), max_columns=5).codes == ("often", "seldom")  # lab takes five columns
    with pytest.raises(UsageError, match="max_columns must be at least 1; got 0"):
        CodeCounts.fit(records, Knowledge(), max_columns=0)


def test_the_table_survives_json_and_nothing_learned_still_encodes() -> None:
    assert CodeCounts.from_dict(json.loads(json.dumps(FITTED.to_dict()))) == FITTED
    empty = CodeCounts.fit([Record()], Knowledge())
    found = empty.encode(record(("new", 1.0)))
    assert found is not None
    assert found["features"].shape == (1, empty.width)


def opened(folder: Path, recipe: str, patients: int, **data: Any) -> Store:
    write_synthetic(folder / "data", patients=patients, recipe=recipe, seed=1)
    return reopened(folder, **data)


def reopened(folder: Path, **data: Any) -> Store:
    settings = {"name": "control", "runs": str(folder), "data": {"folder": str(folder / "data"), **data}}
    return open_store(parse_config({**settings, "model": {"encoders": {"codes": "bag"}}}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    opened(folder, "redundant", 1500)
    return folder


def test_it_finds_what_is_planted_in_codes(folder: Path) -> None:
    store = reopened(folder)
    fit = boosted_counts(store, METRICS["auroc"], seed=0)
    rows = store.cohort.rows("held_out")
    assert fit.predictions.shape == (len(rows), 1)
    truth = json.loads((folder / "data" / "truth.json").read_text(encoding="utf-8"))
    reached = METRICS["auroc"](store.cohort.targets[rows], fit.predictions[:, 0])
    assert reached > truth["bayes_auroc_subsets_held_out"]["codes"] - 0.05
    again, other = (boosted_counts(store, METRICS["auroc"], seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.predictions, fit.predictions)
    assert not np.array_equal(other.predictions, fit.predictions)


def test_held_out_truths_and_records_change_nothing_it_learned(folder: Path, tmp_path: Path) -> None:
    """Turn the truth of held-out patients round: predictions stay as they are."""
    before = boosted_counts(reopened(folder), METRICS["auroc"], seed=0)
    copy = tmp_path / "data"
    write_synthetic(copy, patients=1500, recipe="redundant", seed=1)
    labels = pl.read_parquet(copy / "labels" / "outcome.parquet")
    held_out = pl.read_parquet(copy / "metadata" / "subject_splits.parquet").filter(pl.col("split") == "held_out")
    turned = labels.with_columns(pl.col("boolean_value") ^ pl.col("subject_id").is_in(held_out["subject_id"].to_list()))
    turned.write_parquet(copy / "labels" / "outcome.parquet")
    after = boosted_counts(reopened(tmp_path), METRICS["auroc"], seed=0)
    np.testing.assert_array_equal(after.predictions, before.predictions)
    assert after.score == before.score


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_every_kind_of_task(folder: Path, kind: str) -> None:
    labels = pl.read_parquet(folder / "data" / "labels" / "outcome.parquet")
    truth, keys = labels["boolean_value"].cast(pl.Int64), labels.drop("boolean_value")
    noise = pl.Series(np.random.default_rng(0).random(len(labels)))
    if kind == "multilabel":
        (folder / "data" / "labels" / kind).mkdir()
        for name, value in (("same", truth == 1), ("other", noise > 0.5)):
            keys.with_columns(boolean_value=value).write_parquet(folder / "data" / "labels" / kind / f"{name}.parquet")
    elif kind == "multiclass":
        keys.with_columns(integer_value=truth * 2 + (noise > 0.5).cast(pl.Int64)).write_parquet(
            folder / "data" / "labels" / f"{kind}.parquet"
        )
    else:
        keys.with_columns(float_value=truth * 3.0 + noise).write_parquet(folder / "data" / "labels" / f"{kind}.parquet")
    store = reopened(folder, labels=kind)
    fit = boosted_counts(store, default_metric(store.task.kind), seed=0)
    assert fit.predictions.shape == (len(store.cohort.rows("held_out")), store.task.outputs)
    assert np.isfinite(fit.predictions).all()
    if kind == "multiclass":
        np.testing.assert_allclose(fit.predictions.sum(1), 1, rtol=1e-5)
    if kind == "regression":
        assert fit.score < np.std(store.cohort.targets[store.cohort.rows("tuning")])  # better than one for everybody


def test_patients_without_codes_are_predicted_too(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    write_synthetic(copy, patients=1500, recipe="redundant", seed=1)
    (shard,) = (copy / "data").glob("*.parquet")
    events, taken = pl.read_parquet(shard), list(range(1, 1501, 3))
    events.filter(~pl.col("subject_id").is_in(taken) | pl.col("code").str.starts_with("NOTE//")).write_parquet(shard)
    store = reopened(tmp_path)
    absent = store.source(plan()).row_index.numpy() < 0
    assert absent[store.cohort.rows("held_out")].any()
    assert np.isfinite(boosted_counts(store, METRICS["auroc"], seed=0).predictions).all()
