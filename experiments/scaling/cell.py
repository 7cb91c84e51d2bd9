"""One cell of a scaling study: a network of one size that learns from one share of the training patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.preprocessor import Preparation
from experiments.aim import aim_of_task
from experiments.checkpoint import remove_checkpoint
from experiments.config import Config, TrainingConfig
from experiments.costs import count_flops, training_flops
from experiments.data.batches import iterate_batches
from experiments.data.shares import Shares
from experiments.data.store import Store
from experiments.device import pick_device, seed_everything
from experiments.feeding import build_model, sources
from experiments.loop import Rows, Run
from experiments.optimizer_config import OptimizerConfig
from experiments.pretrain_config import PretrainConfig
from experiments.pretraining.run import begin, deal
from experiments.scaling_config import ScalingConfig
from experiments.whole import whole_file

_SAMPLE = 256  # rows whose operations are counted


@dataclass(frozen=True)
class Cell:
    """What is trained: a size by its number, on a share of the patients; with `budget`, the share that it pays for."""

    size: int
    share: float
    budget: float | None
    seed: int


@dataclass(frozen=True)
class Done:
    """What a cell came to. `data` are tokens, or labels, each as often as it was seen; `loss` is of its best epoch."""

    cell: Cell
    parameters: int
    patients: int
    steps: int
    data: int
    flops: float
    loss: float
    best_epoch: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a size is: its parameters, and the operations that training on one token, or one label, takes."""

    parameters: int
    flops: float


@dataclass(frozen=True)
class Bench:
    """All that the cells of a study share."""

    config: Config
    settings: ScalingConfig
    store: Store
    plans: Mapping[str, Preparation]

    @property
    def folder(self) -> Path:
        """Where the study keeps what it did."""
        return self.config.runs / self.config.name / "scaling"

    def rows(self) -> tuple[Rows, Rows]:
        """Return the rows of the train split that are learned from, and those that judge every cell."""
        return deal(self.store, self.settings.validation, self.config.seed)

    def some(self, share: float, seed: int) -> Rows:
        """Return the rows of a share of the patients; shares of one seed are nested."""
        return Shares(((1, share),), seed).rows(self.store.cohort.subject_ids, self.rows()[0], 1)

    def data(self, rows: Rows) -> int:
        """Return how many tokens, or labels, rows have."""
        if self.settings.objective == "task":
            return len(rows)
        source = self.store.source(self.plans[self.settings.modality])
        return int(source.lengths(torch.as_tensor(rows)).sum())

    def key(self, cell: Cell) -> str:
        """Name all that a cell depends on, so that another's result is not taken for its own."""
        settings = self.settings.model_dump(mode="json", exclude={"sizes", "shares", "flops", "seeds", "least_steps"})
        prints = {name: self.store.fingerprint(plan) for name, plan in sorted(self.plans.items())}
        parts = [settings, self.settings.sizes[cell.size], cell.share, cell.seed, self.config.seed, prints]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def begin_cell(bench: Bench, cell: Cell) -> Run:
    """Return a run of a cell in which nothing was learned yet.

    Raises:
        UsageError: a hyperparameter that cannot be, or a task that has no log loss.
    """
    learned, settings = bench.some(cell.share, cell.seed), bench.settings
    judging = bench.rows()[1]
    steps = -(-len(learned) // settings.batch_size) * settings.epochs
    shared = {name: getattr(settings, name) for name in OptimizerConfig.model_fields}
    # a short run that only warms up would be judged by its warm-up
    shared |= {"warmup_steps": min(settings.warmup_steps, steps // 10), "patience": settings.epochs}
    architecture = settings.architecture(cell.size)
    if settings.objective == "task":
        return _supervised(bench, cell, TrainingConfig(metric="log_loss", **shared), learned, judging)
    encoders: dict[str, Any] = {name: spec.to_dict() for name, spec in architecture.encoders.items()}
    pretraining = PretrainConfig(encoders=encoders, dim=architecture.dim, objectives=("next_event",), **shared)
    config = bench.config.model_copy(update={"seed": cell.seed})
    run, _ = begin(config, pretraining, bench.store, bench.plans, architecture)
    run.learned, run.tuning = learned, judging
    return run


def _supervised(bench: Bench, cell: Cell, training: TrainingConfig, learned: Rows, judging: Rows) -> Run:
    device, store = pick_device(), bench.store
    seed_everything(cell.seed, training.deterministic)
    fitted = {name: store.preprocessor(plan) for name, plan in bench.plans.items()}
    model = build_model(bench.settings.architecture(cell.size), fitted, store.task.outputs).to(device)
    feeds = sources(model, bench.plans, store, ("train",), device)
    aim = aim_of_task(model, store, training, device)._replace(learned=learned, tuning=judging)
    return Run(model, store, training, cell.seed, feeds, device, aim)


def cost(bench: Bench, size: int) -> Cost:
    """Count the parameters and the operations of a size, on batches of training patients."""
    run = begin_cell(bench, Cell(size, 1.0, None, bench.config.seed))
    run.model.cpu().eval()
    run.strategies.cpu()
    rows = np.random.default_rng(0).permutation(run.learned)[:_SAMPLE]
    total = 0.0
    for batch in iterate_batches(run.feeds, run.targets, rows, bench.settings.batch_size, shuffle=0):
        total += count_flops(partial(run.strategies, run.model, target=batch.target), batch.inputs)
    trained = run.model.parameters() if bench.settings.objective == "task" else run.model.encoders.parameters()
    per = total / max(1, bench.data(rows))
    return Cost(sum(each.numel() for each in trained if each.requires_grad), training_flops(per, 1))


def train_cell(bench: Bench, cell: Cell, price: Cost) -> tuple[Done, list[dict[str, float]]]:
    """Train a cell, keep what it came to, and return it with its history; after an interruption it goes on.

    Raises:
        NotFinite: the loss became NaN or infinite.
    """
    key = bench.key(cell)
    checkpoint = bench.folder / "cells" / f"{key}.safetensors"
    run = begin_cell(bench, cell)
    run.resume(checkpoint)
    run.loop(None, None, checkpoint)
    data = bench.data(run.learned) * bench.settings.epochs
    patients = len(np.unique(bench.store.cohort.subject_ids[run.learned]))
    state = run.state
    figures = (data, data * price.flops, state.best_score * run.sign, state.best_epoch, state.seconds)
    steps = run.steps_before(bench.settings.epochs + 1)
    done = Done(cell, price.parameters, patients, steps, *figures)
    with whole_file(bench.folder / "cells" / f"{key}.json") as path:
        path.write_text(json.dumps(asdict(done), indent=1) + "\n", encoding="utf-8")
    remove_checkpoint(checkpoint)
    return done, state.history


def read_cell(bench: Bench, cell: Cell) -> Done | None:
    """Return what a cell came to before; None where it was not trained, or its file is no longer whole."""
    path = bench.folder / "cells" / f"{bench.key(cell)}.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Done(**{**found, "cell": cell})
    except (OSError, ValueError, TypeError):
        return None
