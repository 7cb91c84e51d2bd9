"""Training: patience, losses that are not finite, every kind of task."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from toy_training import ARCHITECTURE, PREPROCESS, folder, numbers, open_labels, run, store  # noqa: F401 - fixtures

from experiments import train as training_module
from experiments.config import TrainingConfig
from experiments.data.store import Store
from experiments.data_config import DataConfig
from experiments.evaluate import predict_rows
from experiments.train import NotFinite, selection_metric
from fusion import Task, UsageError


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
