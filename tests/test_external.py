"""Another site: seen by what was fitted here, shared with nobody, scored apart and held against this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from toy_comparison import BINARY, here, tiny_config
from toy_findings import expit, findings, risks

from experiments import comparing
from experiments.audit.sites import nobody_in_both
from experiments.clinical.external import external_section
from experiments.comparing import compare_config
from experiments.data.external import _as_trained, external_store
from experiments.data.store import Store
from experiments.feeding import preparations
from experiments.sections import Findings
from experiments.sources.synthetic import write_synthetic
from experiments.workspace import open_store
from fusion import Task, UsageError

ENCODERS = {"codes": "bag", "notes": "bag"}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a folder whose data are this site's, and the data of another site, which numbers its patients alike."""
    folder = tmp_path_factory.mktemp("sites")
    write_synthetic(folder / "other", patients=60, seed=7)
    return folder, folder / "other"


def opened(sites: tuple[Path, Path]) -> tuple[Store, Store]:
    store = open_store(tiny_config(sites[0], ENCODERS, "early"))
    return store, external_store(store, sites[1])


def test_preparations_are_those_fitted_here(sites: tuple[Path, Path]) -> None:
    store, external = opened(sites)
    config = tiny_config(sites[0], ENCODERS, "early")
    for plan in preparations(config.model.architecture(), {}).values():  # type: ignore[union-attr]
        assert external.preprocessor(plan).to_dict() == store.preprocessor(plan).to_dict()
        assert external.folder(plan) != store.folder(plan)
    assert len(external.cohort.rows("held_out")) == len(external.cohort.targets) == 60
    assert external.task == store.task


def test_nobody_is_at_both_sites(sites: tuple[Path, Path]) -> None:
    store, external = opened(sites)
    said = nobody_in_both(store, external)
    assert said.startswith("no record of the 60 patients of the other site is in this one's data; 60 patient numbers")
    same = external_store(store, store.dataset.folder)
    with pytest.raises(UsageError, match=r"compare\.external: 120 patients of .* have the record of a patient of"):
        nobody_in_both(store, same)


def test_a_patient_with_another_number_and_other_dates_is_recognised(sites: tuple[Path, Path], tmp_path: Path) -> None:
    store, _ = opened(sites)
    copied = tmp_path / "copied"
    (copied / "data").mkdir(parents=True)
    (copied / "labels").mkdir()
    later = pl.duration(days=400)
    for path in store.dataset.shards:
        events = pl.read_parquet(path).with_columns(pl.col("subject_id") + 5000, pl.col("time") + later)
        events.filter(pl.col("subject_id") <= 5010).write_parquet(copied / "data" / path.name)
    labels = pl.read_parquet(store.dataset.label_path("outcome"))
    labels = labels.with_columns(pl.col("subject_id") + 5000, pl.col("prediction_time") + later)
    labels.filter(pl.col("subject_id") <= 5010).write_parquet(copied / "labels" / "outcome.parquet")
    with pytest.raises(UsageError, match=r"patients of .*copied have the record of a patient"):
        nobody_in_both(store, external_store(store, copied))


def test_classes_have_the_numbers_of_training_and_new_ones_are_refused(sites: tuple[Path, Path]) -> None:
    task = Task("multiclass", ("a", "b", "c"))
    assert _as_trained(Path("x"), np.array([0, 1, 1]), ("b", "c"), task).tolist() == [1, 2, 2]
    with pytest.raises(UsageError, match="nobody was trained on the class 'd'"):
        _as_trained(Path("x"), np.array([0]), ("d",), task)
    labels = Task("multilabel", ("a", "b"))
    assert _as_trained(Path("x"), np.array([[1.0, 0.0]]), ("b", "a"), labels).tolist() == [[0.0, 1.0]]
    with pytest.raises(UsageError, match="expected the labels a, b; got a"):
        _as_trained(Path("x"), np.array([[1.0]]), ("a",), labels)
    store, _ = opened(sites)
    other = Store(store.dataset, replace(store.cohort, task=Task("regression")), store.config, store.cache)
    with pytest.raises(UsageError, match="is binary, but the labels trained on are regression"):
        external_store(other, sites[1])


def elsewhere(folder: Path, good: bool, one_class: bool = False) -> Findings:
    """Return findings of two strategies, of which the fusion is noise at the other site unless it is good there."""
    target, x = risks(1600)
    other, z = target[::2], x[::2]  # as those who are held out here
    found = findings(
        folder, BINARY, target, {"early": [expit(x)] * 2, "codes": [expit(x / 2)] * 2},
        {"early": "fusion", "codes": "modality"},
    )  # fmt: skip
    noise = np.random.default_rng(0).permutation(expit(z))
    for name, there in {"early": expit(z) if good else noise, "codes": expit(z / 2)}.items():
        for (path,) in found.held_out.files[name]:
            with np.load(path) as file:
                kept = dict(file)
            np.savez(path, **kept, external=there[:, None])
    truth = np.zeros(800, np.float32) if one_class else other
    cohort = SimpleNamespace(targets=truth, subject_ids=np.arange(800), task=BINARY)
    store: Any = SimpleNamespace(task=BINARY, cohort=cohort, dataset=SimpleNamespace(folder=Path("north")))
    return found._replace(external=store)


def test_a_strategy_that_fails_at_the_other_site_is_shown_to(tmp_path: Path) -> None:
    found = external_section(elsewhere(tmp_path, good=False))
    assert found is not None
    rows = {row[0]: row for row in found.tables["external"].rows}
    assert rows["early"][2].value == pytest.approx(0.5, abs=0.05)
    assert rows["early"][3].value == pytest.approx(rows["early"][2].value - rows["early"][1].value)
    assert (rows["early"][4], rows["codes only"][4]) == ("yes", "no difference shown")
    assert "a difference is shown. 1 of 2 strategies are shown to differ between the sites." in found.words[0]
    assert found.words[1].startswith("The other site is north: 800 patients, 800 predictions, the event in ")
    (pair,) = found.tables["external_differences"].rows
    assert pair[3].high < 0
    assert pair[4] == "shown there only"


def test_what_is_as_good_there_is_not_said_to_differ(tmp_path: Path) -> None:
    found = external_section(elsewhere(tmp_path, good=True))
    assert found is not None
    assert [row[4] for row in found.tables["external"].rows] == ["no difference shown"] * 2
    slopes = {row[0]: row[2] for row in found.tables["external_calibration"].rows}
    assert slopes["early"].low < 1 < slopes["early"].high
    assert slopes["codes only"].low > 1.4


def test_one_class_at_the_other_site_is_said_in_words(tmp_path: Path) -> None:
    found = external_section(elsewhere(tmp_path, good=True, one_class=True))
    assert found is not None
    assert found.words[0] == "AUROC is not defined at the other site: its patients have one class only."
    assert found.tables["external"].note == "Not defined: the patients there have one class only."
    assert external_section(elsewhere(tmp_path, good=True)._replace(external=None)) is None


def test_a_whole_comparison_with_another_site(sites: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "run_jobs", here)
    config = tiny_config(sites[0], ENCODERS, "early", fusions=["early"], seeds=1, external=str(sites[1]))
    found, folder = compare_config(config, progress=False, audit=False)
    assert "60 patient numbers are in both, with other events" in found.about["external"]
    lines = pl.read_csv(folder / "external.csv")
    assert set(lines["strategy"]) == {row.label for row in found.ranking()}
    assert lines["other site"].is_between(0, 1).all()
    html = (folder / "comparison.html").read_text(encoding="utf-8")
    assert "At another site" in html
    assert "The other site is other: 60 patients" in html
    runs = [np.load(path) for path in (folder / "predictions").glob("*.npz")]
    assert all(each["external"].shape == (60, 1) for each in runs)
    monkeypatch.setattr(comparing, "_train", None)  # what was trained is there
    again, _ = compare_config(config, progress=False, audit=False)
    assert again.to_csv() == found.to_csv()
