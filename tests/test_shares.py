"""Shares of the training patients: nested, by patient, seeded; what a run learns from when; what a user gets wrong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_search import study
from toy_training import ARCHITECTURE, folder, numbers, run, store  # noqa: F401 - fixtures

from experiments import loop as loop_module
from experiments.config import parse_config
from experiments.data.shares import Shares
from experiments.data.store import Store
from experiments.studies import study_shares
from experiments.train import Stopped
from fusion import UsageError

HALF = Shares(((2, 0.5),), seed=3)


def test_shares_rise_at_their_epochs() -> None:
    shares = Shares(((3, 0.25), (9, 0.5)), seed=0)
    assert [shares.at(epoch) for epoch in (1, 3, 4, 9, 10, 99)] == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert shares.last == 9


def test_shares_are_nested_by_patient_and_seeded() -> None:
    subjects = np.repeat(np.arange(40), 3)[np.random.default_rng(0).permutation(120)]
    rows = np.flatnonzero(subjects >= 8)  # 32 patients train
    shares = Shares(((1, 0.25), (2, 0.5), (3, 0.75)), seed=5)
    parts = [shares.rows(subjects, rows, epoch) for epoch in (1, 2, 3, 4)]
    assert [len(np.unique(subjects[part])) for part in parts] == [8, 16, 24, 32]
    assert [len(part) for part in parts] == [24, 48, 72, 96], "all three rows of each patient"
    for smaller, larger in pairwise(parts):
        assert set(smaller.tolist()) < set(larger.tolist())
    assert (np.diff(parts[0]) > 0).all(), "in the order of the cohort"
    assert (parts[0] == shares.rows(subjects, rows, 1)).all()
    other = Shares(shares.steps, seed=6)
    assert set(parts[0].tolist()) != set(other.rows(subjects, rows, 1).tolist())
    assert len(np.unique(subjects[Shares(((1, 0.001),), 0).rows(subjects, rows, 1)])) == 1, "never nobody"


def test_a_run_learns_from_its_share_and_then_from_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[int]] = []
    steps: list[int] = []
    real_batches, real_warm_up = loop_module.iterate_batches, loop_module.warm_up

    def batches(feeds: Any, targets: Any, rows: Any, *rest: Any, **options: Any) -> Any:
        seen.append(set(rows.tolist()))
        return real_batches(feeds, targets, rows, *rest, **options)

    def warm_up(optimizer: Any, training: Any, step: int, last: int) -> None:
        steps.append(step)
        real_warm_up(optimizer, training, step, last)

    monkeypatch.setattr(loop_module, "iterate_batches", batches)
    monkeypatch.setattr(loop_module, "warm_up", warm_up)
    fit = run(store, shares=HALF)
    train = set(store.cohort.rows("train").tolist())
    half = set(HALF.rows(store.cohort.subject_ids, store.cohort.rows("train"), 1).tolist())
    assert half < train
    assert seen == [half, half, train, train]
    assert [entry.get("share") for entry in fit.history] == [0.5, 0.5, None, None]
    assert steps == list(range(len(steps))), "the warm-up counts the steps that there were"


def test_patience_begins_when_all_patients_are_there(store: Store) -> None:
    still = {"patience": 1, "epochs": 8, "lr": 1e-12}  # the score never improves
    assert len(run(store, **still).history) == 2
    assert len(run(store, **still, shares=Shares(((3, 0.5),), 0)).history) == 4


def test_a_run_on_shares_goes_on_exactly(store: Store, tmp_path: Path) -> None:
    whole = run(store, shares=HALF)
    asked = 0

    def now_and_then() -> bool:
        nonlocal asked
        asked += 1
        return asked in (3, 9)

    path, stops = tmp_path / "run.safetensors", 0
    while True:
        try:
            fit = run(store, shares=HALF, checkpoint=path, should_stop=now_and_then)
            break
        except Stopped:
            stops += 1
    assert stops == 2
    assert numbers(fit) == numbers(whole)


def test_rungs_give_the_epochs(small_folder: Path, tmp_path: Path) -> None:
    search = {"trials": 3, "fractions": [0.2, 0.6], "first_rung": 2, "reduction": 3}
    config = study(small_folder, tmp_path, search=search, training={"epochs": 7})
    assert study_shares(config) == Shares(((2, 0.2), (6, 0.6)), seed=config.seed)
    assert study_shares(study(small_folder, tmp_path)) is None
    with pytest.raises(UsageError) as caught:
        study_shares(study(small_folder, tmp_path, search=search, training={"epochs": 6}))
    assert str(caught.value) == (
        "search.fractions: the last of 2 ends with epoch 6, and training.epochs (6) leaves none with all patients"
    )


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"fractions": [0.5, 0.2]}, "fractions must rise; got 0.5, 0.2"),
        ({"fractions": [0.5, 0.5]}, "fractions must rise; got 0.5, 0.5"),
        ({"fractions": [1.5]}, "Input should be less than 1; got 1.5"),
        ({"fractions": [0.5], "pruner": "none"}, "fractions are of rungs, and pruner 'none' has none; take halving"),
    ],
)
def test_fractions_that_make_no_sense(small_folder: Path, search: dict[str, Any], message: str) -> None:
    data = {"name": "s", "data": {"folder": small_folder}, "space": {"encoders": {"codes": "bag"}}}
    with pytest.raises(UsageError) as caught:
        parse_config({**data, "search": {"trials": 2, **search}})
    assert message in str(caught.value)
