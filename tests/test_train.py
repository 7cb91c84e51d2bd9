"""The loop: the same numbers from the same seed and after any stop, weights of the best epoch, no look ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import ARCHITECTURE, folder, numbers, run, store  # noqa: F401 - fixtures

from experiments import loop as loop_module
from experiments.checkpoint import previous, read_checkpoint
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.metrics import score
from experiments.train import Fit, Stopped
from fusion import Architecture, Spec


def same_weights(first: Fit, second: Fit) -> bool:
    other = second.model.state_dict()
    return all(torch.equal(each, other[name]) for name, each in first.model.state_dict().items())


def test_same_seed_same_run_other_seed_other_run(store: Store) -> None:
    first, again, other = run(store), run(store), run(store, seed=2)
    assert numbers(first) == numbers(again)
    assert same_weights(first, again)
    assert numbers(first) != numbers(other)


@pytest.mark.parametrize(
    "encoders",
    [
        {"codes": Spec("gru"), "images": Spec("conv", {"dropout": 0.2})},
        {"codes": Spec("transformer", {"dropout": 0.2}), "graph": Spec("gat", {"dropout": 0.2})},
    ],
)
def test_a_run_stopped_inside_any_epoch_goes_on_exactly(
    store: Store, tmp_path: Path, encoders: dict[str, Spec]
) -> None:
    architecture = Architecture(encoders, Spec("cross_attention", {"dropout": 0.2}), 8)
    whole = run(store, architecture, modality_dropout=0.3, epochs=3)
    asked = 0

    def now_and_then() -> bool:
        nonlocal asked
        asked += 1
        return asked % 7 == 0  # 4 steps an epoch: stops in the first epoch and the second, at different places

    path, stops = tmp_path / "run.safetensors", 0
    while True:
        try:
            fit = run(store, architecture, modality_dropout=0.3, epochs=3, checkpoint=path, should_stop=now_and_then)
            break
        except Stopped:
            stops += 1
    assert stops >= 2
    assert numbers(fit) == numbers(whole)
    assert same_weights(fit, whole)
    assert (fit.best_epoch, fit.score) == (whole.best_epoch, whole.score)


def test_a_resumed_run_reports_its_earlier_epochs_first(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(store, epochs=2, checkpoint=path)
    reported: list[int] = []
    fit = run(store, checkpoint=path, on_epoch=lambda epoch, _: reported.append(epoch))
    assert reported == [1, 2, 3, 4]
    assert numbers(fit) == numbers(run(store))
    assert fit.seconds >= sum(epoch["seconds"] for epoch in fit.history[:2])


def test_a_damaged_checkpoint_costs_one_epoch_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(store, epochs=3, checkpoint=path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    found = read_checkpoint(path)
    assert found is not None
    assert found.state["run"]["epoch"] == 2
    assert numbers(run(store, checkpoint=path)) == numbers(run(store))
    path.write_bytes(b"")
    previous(path).write_bytes(b"")
    assert numbers(run(store, checkpoint=path)) == numbers(run(store))


def test_a_checkpoint_of_another_run_is_not_used(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    run(store, checkpoint=path, seed=2)
    assert numbers(run(store, checkpoint=path)) == numbers(run(store))
    run(store, replace(ARCHITECTURE, dim=16), checkpoint=path)
    assert numbers(run(store, checkpoint=path)) == numbers(run(store))


def test_the_held_out_split_is_never_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = set(store.cohort.rows("held_out").tolist())
    seen: set[int] = set()
    original = loop_module.iterate_batches

    def spy(feeds: Any, targets: Any, rows: Any, *arguments: Any, **options: Any) -> Any:
        seen.update(rows.tolist())
        return original(feeds, targets, rows, *arguments, **options)

    monkeypatch.setattr("experiments.loop.iterate_batches", spy)
    monkeypatch.setattr("experiments.evaluate.iterate_batches", spy)
    before = run(store)
    assert seen == set(store.cohort.rows("train").tolist()) | set(store.cohort.rows("tuning").tolist())
    changed = store.cohort.targets.copy()
    changed[sorted(held_out)] = 1 - changed[sorted(held_out)]
    other = Store(store.dataset, replace(store.cohort, targets=changed), store.config, store.cache)
    assert numbers(run(other)) == numbers(before)


def test_the_weights_are_those_of_the_best_epoch(store: Store) -> None:
    fit = run(store, epochs=6, lr=0.1)
    scores = [epoch["score"] for epoch in fit.history]
    assert fit.score == max(scores)
    assert fit.best_epoch == scores.index(max(scores)) + 1
    rows = store.cohort.rows("tuning")
    found = squeeze_outputs(store.task, predict_rows(fit.model, fit.preparations, store, rows))
    assert score(store.task, store.cohort.targets[rows], found)["auroc"] == pytest.approx(fit.score)
