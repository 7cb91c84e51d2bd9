"""A second fold of training patients: dealt by patient, held-out ones untouched, and counted when a model is chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import retraining
from experiments.config import StudyConfig, parse_config
from experiments.retraining import Retrained, _on_second_fold, _second_fold
from experiments.workspace import open_store
from fusion import Architecture, Spec
from search.space import Candidate


def config(small_folder: Path, runs: Path, **splits: Any) -> StudyConfig:
    data = {
        "name": "small",
        "runs": runs,
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}}, "splits": splits},
        "training": {"epochs": 1},
        "space": {"encoders": {"codes": "bag"}, "fusion": "early", "dim": 8},
        "search": {"trials": 1},
    }
    found = parse_config(data)
    assert isinstance(found, StudyConfig)
    return found


def candidate(dim: int) -> Candidate:
    return Candidate(Architecture({"codes": Spec("bag")}, Spec("early"), dim))


def test_patients_are_dealt_anew_and_held_out_ones_stay(small_folder: Path, tmp_path: Path) -> None:
    first, second, again, third = (
        open_store(config(small_folder, tmp_path, fold=fold)).cohort for fold in (0, 1, 1, 2)
    )
    assert (second.split == again.split).all()
    assert second.split.tolist() != third.split.tolist()
    assert (first.rows("held_out") == second.rows("held_out")).all()
    tuned, tuned_then = (set(each.subject_ids[each.rows("tuning")].tolist()) for each in (first, second))
    assert len(tuned) == len(tuned_then)
    assert not tuned & tuned_then, "who was tuned on learns now"
    assert first.split_fingerprint != second.split_fingerprint
    for subject in set(second.subject_ids.tolist()):
        assert len(set(second.split[second.subject_ids == subject].tolist())) == 1


def test_a_second_fold_needs_patients_enough_and_a_split_by_patient(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = config(small_folder, tmp_path)
    store = open_store(study)
    rarest = np.unique(store.cohort.targets[store.cohort.rows("tuning")], return_counts=True)[1].min()
    monkeypatch.setattr(retraining, "_ENOUGH", rarest + 1)
    assert _second_fold(study, store) is None
    monkeypatch.setattr(retraining, "_ENOUGH", rarest)
    found = _second_fold(study, store)
    assert found is not None
    assert found["data"]["splits"]["fold"] == 1
    by_time = config(small_folder, tmp_path, by="time")
    assert _second_fold(by_time, open_store(by_time)) is None, "dealing would mix the years"


def test_both_folds_count_alike(small_folder: Path, tmp_path: Path) -> None:
    settings = config(small_folder, tmp_path).model_dump(mode="json")
    settings["data"]["splits"]["fold"] = 1
    before = [Retrained(i, candidate(dim), (0.7, 0.8), ()) for i, dim in enumerate((8, 16))]
    found = _on_second_fold(settings, before, seeds=2, workers=1, progress=False)
    assert [len(each.second) for each in found] == [2, 2]
    assert found[0].second != found[1].second
    assert found[0].mean == pytest.approx((0.75 + np.mean(found[0].second)) / 2)
    assert before[0].mean == 0.75
    lucky, steady = replace(before[0], second=(0.5, 0.5)), replace(before[1], scores=(0.7, 0.7), second=(0.7, 0.7))
    assert max((lucky, steady), key=lambda each: each.mean) is steady


def test_a_fold_that_fails_counts_for_nobody(small_folder: Path, tmp_path: Path) -> None:
    settings = config(small_folder, tmp_path / "runs").model_dump(mode="json")
    settings["data"]["folder"] = str(tmp_path / "nowhere")
    before = [Retrained(i, candidate(8), (0.7,), ()) for i in range(2)]
    assert _on_second_fold(settings, before, seeds=1, workers=1, progress=False) == before
