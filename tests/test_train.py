"""The loop: the same numbers from the same seed and after any stop, weights of the best epoch, no look ahead."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from experiments import loop as loop_module
from experiments import train as training_module
from experiments.checkpoint import previous, read_checkpoint
from experiments.config import DataConfig, TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.metrics import score
from experiments.train import Fit, NotFinite, Stopped, selection_metric, train
from experiments.workspace import open_store
from fusion import Architecture, Spec, Task, UsageError

PREPROCESS = {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}
ARCHITECTURE = Architecture({"codes": Spec("bag"), "notes": Spec("bag", {"dropout": 0.3})}, Spec("late"), 8)


@pytest.fixture(scope="module")
def folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a label of every kind, all of them about the outcome."""
    found = Path(shutil.copytree(small_folder, tmp_path_factory.mktemp("train") / "data"))
    table = pl.read_parquet(found / "labels" / "outcome.parquet")
    keys, outcome = table.select("subject_id", "prediction_time"), table["boolean_value"].to_numpy()
    rng = np.random.default_rng(0)
    stage = outcome.astype(int) + (rng.random(len(outcome)) < 0.3)
    days = 5.0 + 90 * outcome + rng.normal(0, 5, len(outcome))
    keys.with_columns(integer_value=pl.Series(stage)).write_parquet(found / "labels" / "stage.parquet")
    keys.with_columns(float_value=pl.Series(days)).write_parquet(found / "labels" / "days.parquet")
    (found / "labels" / "findings").mkdir()
    for name, flip in (("first", 0.1), ("second", 0.3)):
        value = pl.Series(outcome ^ (rng.random(len(outcome)) < flip))
        keys.with_columns(boolean_value=value).write_parquet(found / "labels" / "findings" / f"{name}.parquet")
    return found


def open_labels(folder: Path, labels: str) -> Store:
    data = {"folder": folder, "labels": labels, "preprocess": PREPROCESS}
    model = {"encoders": {"codes": "bag"}}
    return open_store(parse_config({"name": "t", "runs": folder.parent, "data": data, "model": model}))


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_labels(folder, "outcome")


def run(store: Store, architecture: Architecture = ARCHITECTURE, seed: int = 1, **options: Any) -> Fit:
    """Train for four epochs, unless told otherwise; keys of `options` that are no settings are passed on."""
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 32, "warmup_steps": 5, "patience": 50, "lr": 1e-2}
    for name in [name for name in options if name in TrainingConfig.model_fields]:
        settings[name] = options.pop(name)
    return train(architecture, store, TrainingConfig(**settings), seed, preprocess=PREPROCESS, **options)


def numbers(fit: Fit) -> list[dict[str, float]]:
    """What the epochs gave, without how long they took."""
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in fit.history]


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


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Make the tuning split say what it is told."""
    told = iter(scores)
    monkeypatch.setattr("experiments.loop.Run.tune", lambda _: {"score": next(told)})


def test_patience_counts_epochs_without_a_better_score(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.7, 0.7, 0.6, 0.9])
    fit = run(store, epochs=5, patience=2)
    assert (len(fit.history), fit.best_epoch, fit.score) == (4, 2, 0.7)


def test_where_lower_is_better_the_lowest_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [0.5, 0.2, 0.4])
    fit = run(store, epochs=3, metric="brier")
    assert (fit.metric, fit.best_epoch, fit.score) == ("brier", 2, 0.2)


def test_a_loss_that_is_not_finite_ends_the_run_with_its_place(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(NotFinite, match=r"the loss is \w+ in epoch \d, step \d"):
        run(store, lr=1e30, clip=1e30, warmup_steps=0, checkpoint=path)


def test_a_score_that_is_not_finite_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.loop.score", lambda *_: {"auroc": math.nan})
    with pytest.raises(NotFinite, match="the tuning auroc is nan in epoch 1"):
        run(store)


@pytest.mark.parametrize(
    ("labels", "kind", "outputs", "metric", "better_than"),
    [
        ("outcome", "binary", 1, "auroc", lambda value: value > 0.6),
        ("stage", "multiclass", 3, None, None),
        ("findings", "multilabel", 2, None, None),
        ("days", "regression", 1, "rmse", lambda value: value < 45),
    ],
)
@pytest.mark.parametrize("class_weights", [False, True])
def test_every_kind_of_task_learns(
    folder: Path,
    labels: str,
    kind: str,
    outputs: int,
    metric: str | None,
    better_than: Callable[[float], bool] | None,
    class_weights: bool,
) -> None:
    store = open_labels(folder, labels)
    assert (store.task.kind, store.task.outputs) == (kind, outputs)
    if class_weights and kind == "regression":
        with pytest.raises(UsageError, match=r"training\.class_weights is about classes; a regression task has none"):
            run(store, class_weights=True, metric=metric)
        return
    fit = run(store, epochs=20, class_weights=class_weights, metric=metric)
    losses = [epoch["train_loss"] for epoch in fit.history]
    assert losses[-1] < 0.9 * losses[0]
    if better_than is not None:
        assert better_than(fit.score), fit.score


def test_class_weights_move_predictions_to_the_rare_class(folder: Path) -> None:
    store = open_labels(folder, "stage")
    rare = int(np.bincount(store.cohort.targets.astype(int)).argmin())
    rows = store.cohort.rows("tuning")

    def mean_of_rare(class_weights: bool) -> float:
        fit = run(store, class_weights=class_weights)
        return float(predict_rows(fit.model, fit.preparations, store, rows)[:, rare].mean())

    assert mean_of_rare(True) > mean_of_rare(False)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Record the learning rate and the norm of the gradient of every update."""
    found: list[tuple[float, float]] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: Any, **options: Any) -> Any:
        gradients = [each.grad for group in self.param_groups for each in group["params"] if each.grad is not None]
        found.append((self.param_groups[0]["lr"], float(torch.nn.utils.get_total_norm(gradients))))
        return original(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return found


def test_the_learning_rate_grows_and_gradients_are_clipped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = recorded(monkeypatch)
    run(store, epochs=2, warmup_steps=5, lr=0.01, clip=0.05)
    assert [rate for rate, _ in steps[:6]] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01, 0.01])
    assert max(norm for _, norm in steps) <= 0.0501
    steps.clear()
    run(store, epochs=2, clip=1e6)
    assert max(norm for _, norm in steps) > 0.0501


def test_modality_dropout_is_off_in_evaluation(store: Store) -> None:
    fit = run(store, modality_dropout=0.9, epochs=1)
    rows = store.cohort.rows("tuning")
    first, second = (predict_rows(fit.model, fit.preparations, store, rows) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert numbers(fit) != numbers(run(store, epochs=1))


def test_metrics_must_fit_the_task() -> None:
    assert selection_metric(Task("binary"), TrainingConfig()).name == "auroc"
    with pytest.raises(UsageError, match="unknown metric for a binary task 'auroc2'; did you mean 'auroc'"):
        selection_metric(Task("binary"), TrainingConfig(metric="auroc2"))
    with pytest.raises(UsageError, match="metric for a regression task 'auroc'"):
        selection_metric(Task("regression"), TrainingConfig(metric="auroc"))


def test_nothing_is_fitted_on_tuning_or_held_out_rows(store: Store, tmp_path: Path) -> None:
    rows = np.flatnonzero(store.cohort.split != "train")
    shard = min((store.dataset.folder / "data").rglob("*.parquet"))
    late = store.cohort.subject_ids[rows].tolist()
    copied = Path(shutil.copytree(store.dataset.folder, tmp_path / "data"))
    target = copied / shard.relative_to(store.dataset.folder)
    strange = pl.when(pl.col("subject_id").is_in(late)).then(pl.col("code") + "//STRANGE").otherwise(pl.col("code"))
    coded = ~pl.col("code").str.starts_with("NOTE//") & ~pl.col("code").str.starts_with("MEDS_BIRTH")
    table = pl.read_parquet(target)
    table.with_columns(code=pl.when(coded).then(strange).otherwise(pl.col("code"))).write_parquet(target)
    other = open_labels(copied, "outcome")
    plans = training_module.preparations(ARCHITECTURE, PREPROCESS)
    assert other.data_fingerprint != store.data_fingerprint
    assert other.preprocessor(plans["codes"]).to_dict() == store.preprocessor(plans["codes"]).to_dict()
    assert DataConfig(folder=copied).window_days is None
