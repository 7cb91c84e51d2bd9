"""The only training loop: AdamW on length buckets, early stopping on the tuning split, resumable at every epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoders.preprocessor import Preparation
from experiments.checkpoint import (
    Checkpoint,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    write_checkpoint,
)
from experiments.config import TrainingConfig
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.device import move, peak_memory_mb, pick_device, reset_peak_memory, seed_everything
from experiments.evaluate import precision, predict_sources, squeeze_outputs
from experiments.feeding import build_model, preparations, sources
from experiments.metrics import METRICS, Metric, default_metric, score
from fusion import Architecture, FusionModel, Task, loss
from fusion.component import UsageError, unknown

EpochReport = Callable[[int, dict[str, float]], None]


class NotFinite(RuntimeError):
    """The loss or the score of a run is NaN or infinite, so that nothing it says can be trusted."""


class Stopped(RuntimeError):
    """The run was asked to stop; its checkpoint holds everything up to the last whole epoch."""


@dataclass(frozen=True)
class Fit:
    """A trained model with the weights of its best epoch, and what training it took."""

    model: FusionModel
    preparations: Mapping[str, Preparation]
    metric: str
    score: float
    best_epoch: int
    history: list[dict[str, float]]
    seconds: float
    parameters: int
    peak_memory_mb: float


@dataclass
class _State:
    """What a checkpoint holds besides weights."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


def selection_metric(task: Task, training: TrainingConfig) -> Metric:
    """Return the metric that picks the best epoch and the best trial.

    Raises:
        UsageError: there is no such metric for this kind of task.
    """
    if training.metric is None:
        return default_metric(task.kind)
    known = {name: metric for name, metric in METRICS.items() if task.kind in metric.kinds}
    if training.metric not in known:
        raise unknown(f"metric for a {task.kind} task", training.metric, known, "training.metric")
    return known[training.metric]


def train(
    architecture: Architecture,
    store: Store,
    training: TrainingConfig,
    seed: int,
    *,
    preprocess: Mapping[str, Mapping[str, Any]] | None = None,
    on_epoch: EpochReport | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Train one architecture on the train split and keep the epoch that is best on the tuning split.

    The held-out split is never read. With a checkpoint path the run goes on where it was; epochs it had already
    done are reported again, first.

    Raises:
        NotFinite: the loss or the score became NaN or infinite.
        Stopped: `should_stop` said so.
    """
    device = pick_device()
    seed_everything(seed, training.deterministic)
    reset_peak_memory(device)
    plans = preparations(architecture, preprocess or {})
    store.prepare(list(plans.values()))
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    model = build_model(architecture, fitted, store.task.outputs, training.modality_dropout).to(device)
    run = _Run(model, store, training, seed, sources(model, plans, store, ("train", "tuning"), device), device)
    run.resume(checkpoint)
    run.loop(on_epoch, should_stop, checkpoint)
    model.load_state_dict(run.state.best, strict=False)
    return Fit(
        model=model.eval(),
        preparations=plans,
        metric=run.metric.name,
        score=run.state.best_score * run.sign,
        best_epoch=run.state.best_epoch,
        history=run.state.history,
        seconds=run.state.seconds,
        parameters=sum(each.numel() for each in model.parameters() if each.requires_grad),
        peak_memory_mb=peak_memory_mb(device),
    )


class _Run:
    """One training run: the pieces the loop needs, so that its steps stay short."""

    def __init__(
        self,
        model: FusionModel,
        store: Store,
        training: TrainingConfig,
        seed: int,
        feeds: Any,
        device: torch.device,
    ) -> None:
        self.model, self.store, self.training, self.seed = model, store, training, seed
        self.feeds, self.device = feeds, device
        self.metric = selection_metric(store.task, training)
        self.sign = 1.0 if self.metric.higher_is_better else -1.0
        self.rows = {split: store.cohort.rows(split) for split in ("train", "tuning")}
        self.optimizer = _optimizer(model, training, device)
        self.class_weight = _class_weight(store, self.rows["train"], device) if training.class_weights else None
        self.state = _State()

    def loop(self, on_epoch: EpochReport | None, should_stop: Callable[[], bool] | None, path: Path | None) -> None:
        """Train until the last epoch or until patience runs out."""
        for entry in self.state.history if on_epoch else []:
            on_epoch(int(entry["epoch"]), entry)  # type: ignore[misc]
        while self.state.epoch < self.training.epochs and not self.out_of_patience():
            start = time.monotonic()
            train_loss = self.epoch(should_stop)
            entry = {"epoch": float(self.state.epoch + 1), "train_loss": train_loss, **self.tune()}
            entry["seconds"] = time.monotonic() - start
            self.record(entry)
            if path is not None:
                self.save(path)
            if on_epoch:
                on_epoch(self.state.epoch, entry)

    def out_of_patience(self) -> bool:
        """Tell whether the tuning score has not improved for `patience` epochs."""
        return self.state.epoch - self.state.best_epoch >= self.training.patience

    def epoch(self, should_stop: Callable[[], bool] | None) -> float:
        """Go through the train split once and return the mean loss."""
        self.model.train()
        torch.manual_seed(_mix(self.seed, self.state.epoch))  # a resumed epoch draws what it would have drawn
        total, seen = torch.zeros((), device=self.device), 0
        batches = iterate_batches(
            self.feeds,
            self.store.cohort.targets,
            self.rows["train"],
            self.training.batch_size,
            shuffle=_mix(self.seed, self.state.epoch),
        )
        done = self.state.epoch * math.ceil(len(self.rows["train"]) / self.training.batch_size)
        for step, batch in enumerate(batches):
            if should_stop and should_stop():
                raise Stopped("asked to stop")
            self.warm_up(done + step)
            value = self.step(move(batch.inputs, self.device), batch.target.to(self.device))
            total, seen = total + value * len(batch.rows), seen + len(batch.rows)
            if (self.device.type == "cpu" or step % 16 == 0) and not math.isfinite(float(total)):
                raise NotFinite(f"the loss is {float(value)} in epoch {self.state.epoch + 1}, step {step + 1}")
        mean = float(total) / max(1, seen)
        if not math.isfinite(mean):
            raise NotFinite(f"the loss is {mean} in epoch {self.state.epoch + 1}")
        return mean

    def warm_up(self, step: int) -> None:
        """Set the learning rate of a step (counted from 0 over all epochs): it grows linearly, then stays."""
        share = min(1.0, (step + 1) / max(1, self.training.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.lr * share

    def step(self, inputs: Any, target: Tensor) -> Tensor:
        """Update the weights on one batch and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        with precision(self.device):
            logits = self.model(inputs)
        value = loss(self.store.task, logits, target, self.class_weight)
        value.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
        self.optimizer.step()
        return value.detach()

    def tune(self) -> dict[str, float]:
        """Score the tuning split."""
        rows, task = self.rows["tuning"], self.store.task
        found = predict_sources(self.model, self.feeds, self.store, rows, self.device)
        metrics = score(task, self.store.cohort.targets[rows], squeeze_outputs(task, found))
        value = metrics[self.metric.name]
        if not math.isfinite(value):
            raise NotFinite(f"the tuning {self.metric.name} is {value} in epoch {self.state.epoch + 1}")
        return {"score": value, **{name: each for name, each in metrics.items() if math.isfinite(each)}}

    def record(self, entry: dict[str, float]) -> None:
        """Close an epoch: count it, and keep its weights if it is the best."""
        state = self.state
        state.epoch += 1
        state.seconds += entry["seconds"]
        state.history.append(entry)
        if entry["score"] * self.sign > state.best_score:
            state.best_score, state.best_epoch = entry["score"] * self.sign, state.epoch
            state.best = {name: each.detach().cpu().clone() for name, each in trainable_state(self.model).items()}

    def save(self, path: Path) -> None:
        """Write everything needed to go on after this epoch."""
        parts = {
            "model": trainable_state(self.model),
            "best": self.state.best,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        tensors = {f"{part}.{name}": each for part, items in parts.items() for name, each in items.items()}
        state = {
            name: getattr(self.state, name) for name in ("epoch", "best_epoch", "best_score", "seconds", "history")
        }
        write_checkpoint(path, Checkpoint(tensors, {**state, "seed": self.seed}))

    def resume(self, path: Path | None) -> None:
        """Go on from a checkpoint if there is a whole one of this run."""
        found = read_checkpoint(path) if path is not None else None
        if found is None or found.state.get("seed") != self.seed:
            return
        known = trainable_state(self.model)
        weights = found.part("model")
        if {n: t.shape for n, t in weights.items()} != {n: t.shape for n, t in known.items()}:
            return
        self.model.load_state_dict(weights, strict=False)
        load_optimizer(self.optimizer, found.part("optimizer"))
        kept = {name: value for name, value in found.state.items() if name != "seed"}
        self.state = _State(**kept, best=found.part("best"))


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state a run changes: trained parameters and buffers, without frozen weights."""
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    return {name: each for name, each in model.state_dict().items() if name not in frozen}


def _optimizer(model: nn.Module, training: TrainingConfig, device: torch.device) -> torch.optim.AdamW:
    trained = [each for each in model.parameters() if each.requires_grad]
    if not trained:
        raise UsageError("the model has nothing to train")
    groups = [
        {"params": [each for each in trained if each.dim() >= 2], "weight_decay": training.weight_decay},
        {"params": [each for each in trained if each.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.lr, fused=device.type in ("cpu", "cuda"))


def _class_weight(store: Store, rows: NDArray[np.int64], device: torch.device) -> Tensor | None:
    """Weigh positives (or classes) by how rare they are in the train split."""
    task, targets = store.task, store.cohort.targets[rows]
    if task.kind == "regression":
        return None
    if task.kind == "multiclass":
        counts = np.bincount(targets.astype(np.int64), minlength=task.outputs).clip(min=1)
        weight = len(rows) / (task.outputs * counts)
    else:
        positives = targets.reshape(len(rows), -1).sum(0).clip(min=1)
        weight = (len(rows) - positives).clip(min=1) / positives
    return torch.as_tensor(weight, dtype=torch.float32, device=device)


def _mix(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed % 2**63, epoch]).generate_state(1)[0])
