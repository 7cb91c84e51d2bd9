"""Leaks in what is made of clean files: packed tensors, preprocessors, splits, pre-trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from toy_audit import LABELS, audit_of, change, copied, fitted_on_all, opened, split_by_row

from experiments.audit.evidence import Evidence
from experiments.audit.finding import Finding, Skipped, rows_text
from experiments.audit.fitting import pretrained_elsewhere, same
from experiments.audit.links import linked
from experiments.audit.pretraining import pretraining_file, write_pretraining
from experiments.audit.run import used
from experiments.data.folder import Dataset
from experiments.data.reader import _Events
from experiments.data.store import Store
from fusion import Spec, UsageError


def everything(events: _Events, subject: int, _: int) -> slice:
    """What a reader returns that forgot about the prediction time."""
    first, last = np.searchsorted(events.subjects, [subject, subject + 1])
    return slice(int(first), int(last))


@pytest.mark.parametrize("hides", [False, True], ids=["dated as it is", "dated before"])
def test_future_in_packed_tensors_is_found(hides: bool, small_folder: Path, tmp_path: Path) -> None:
    config, store = opened(small_folder, tmp_path)
    honest = _Events.days
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Events, "until", everything)
        if hides:
            patch.setattr(_Events, "days", lambda *given: np.abs(honest(*given)))
        store.prepare(used(config)[0])
    found = audit_of(config, store)
    words = [each.what for check, each in found.of("error") if check == "future"]
    assert sum("hold something from after" in each for each in words) == 2, "codes and notes; images are all earlier"
    assert any("dated after" in each for each in words) != hides


def test_preprocessors_of_everybody_are_found(small_folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    config, store = opened(small_folder, tmp_path)
    fitted_on_all(store, monkeypatch, used(config)[0])
    found = audit_of(config, store)
    wrong = [each.what for check, each in found.of("error") if check == "fitted outside training"]
    assert len(wrong) == 4, "codes, notes, images and the codes of the control"
    assert {check for check, _ in found.of("error")} == {"fitted outside training"}
    assert "training rows give" in wrong[0]


def test_splits_by_row_share_patients_and_learn_shuffled_labels(small_folder: Path, tmp_path: Path) -> None:
    folder = copied(small_folder, tmp_path / "data")
    again = pl.col("prediction_time") - pl.duration(minutes=1)
    change(folder, LABELS, lambda table: pl.concat([table, table.with_columns(again)]))
    config, store = opened(folder, tmp_path / "runs")
    clean = audit_of(config, store)
    assert clean.of("error") == []
    found = audit_of(config, split_by_row(Store(store.dataset, store.cohort, store.config, tmp_path / "other")))
    assert {"patients overlap", "shuffled labels"} <= {check for check, _ in found.of("error")}


def pretrained(store: Store, weights: Path | str) -> list[Finding]:
    return list(
        pretrained_elsewhere(Evidence(store, [], [("notes", Spec("pretrained", {"model": str(weights)}))])).findings
    )


def test_test_patients_in_pretraining_are_found(small_folder: Path, tmp_path: Path) -> None:
    _, store = opened(small_folder, tmp_path)
    weights = tmp_path / "weights"
    weights.mkdir()
    [unsaid] = pretrained(store, weights)
    assert (unsaid.severity, "do not say which patients" in unsaid.what) == ("warning", True)
    source, cohort = store.dataset.metadata["dataset_name"], store.cohort
    write_pretraining(weights, cohort.subject_ids[cohort.rows("train")], source)
    assert pretrained(store, weights) == []
    write_pretraining(weights, cohort.subject_ids, source)
    [leak] = pretrained(store, weights)
    late = int((cohort.split != "train").sum())
    assert (leak.severity, f"on {late} patients of the tuning and held-out splits" in leak.what) == ("error", True)
    write_pretraining(weights, cohort.subject_ids, "elsewhere")
    [unsure] = pretrained(store, weights)
    assert (unsure.severity, "'elsewhere'" in unsure.what) == ("warning", True)


def test_list_of_pretraining_patients_is_salted_and_checked(small_folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    subjects = np.array([987_654_321, 12])
    path = write_pretraining(weights, subjects, "a")
    assert path == pretraining_file(weights) == tmp_path / "weights.safetensors.pretraining.json"
    first = json.loads(path.read_text(encoding="utf-8"))
    assert "987654321" not in path.read_text(encoding="utf-8")
    write_pretraining(weights, subjects, "a")
    assert not set(first["patients"]) & set(json.loads(path.read_text(encoding="utf-8"))["patients"]), "another salt"
    _, store = opened(small_folder, tmp_path)
    for text, words in (
        ("[]", "not a list of pre-training patients"),
        (json.dumps({**first, "format": 9}), "format 9"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            pretrained(store, weights)


def test_public_models_that_read_the_source_are_known(small_folder: Path, tmp_path: Path) -> None:
    _, store = opened(small_folder, tmp_path)
    with pytest.raises(Skipped):
        pretrained(store, "emilyalsentzer/no_such")
    assert pretrained(store, "emilyalsentzer/Bio_ClinicalBERT") == []
    dataset = Dataset(store.dataset.folder)
    dataset.__dict__["metadata"] = {"dataset_name": "MIMIC-IV demo"}
    other = Store(dataset, store.cohort, store.config, tmp_path)
    assert [each.severity for each in pretrained(other, "emilyalsentzer/Bio_ClinicalBERT")] == ["warning"]


def test_links_need_rare_events_at_several_times() -> None:
    cut = pl.DataFrame({"subject_id": [1, 2, 3], "cut": [100, 1100, 100]})

    def shares(times: list[int], other: list[int]) -> list[tuple[int, int, float]]:
        rows = [(1, time, "A", 0.5) for time in times] + [(2, time, "A", 0.5) for time in other]
        rows += [(3, 7, "B", None), (2, 5000, "A", 0.5)]
        schema = ["subject_id", "time", "code", "value"]
        return linked(pl.DataFrame(rows, schema=schema, orient="row"), cut).rows()

    assert shares([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == [(1, 2, 1.0)]
    assert shares([1, 2, 3, 4, 5], [1001, 1002, 1003, 1004, 1005]) == [(1, 2, 1.0)], "the same but for the dates"
    assert shares([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 26, 27, 28]) == [(1, 2, 5 / 8)]
    assert shares([1, 2, 3, 4], [1, 2, 3, 4]) == [], "four events say too little"


def test_numbers_may_differ_by_rounding_only() -> None:
    kept = {"codes": ["a"], "scale": [1.0, float("nan")]}
    assert same(kept, {"codes": ["a"], "scale": [1.0 + 1e-9, float("nan")]})
    assert not same(kept, {"codes": ["a"], "scale": [1.001, float("nan")]})
    assert not same(kept, {"codes": ["a", "b"], "scale": [1.0, float("nan")]})
    assert rows_text([4]) == "cohort row 4"
    assert rows_text(np.array([21, 3, 5, 8, 13, 3])) == "cohort rows 3, 5, 8 and 2 more"
