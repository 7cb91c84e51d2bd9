"""Fitting a model to records in memory: a private data folder, the one training loop, and what came of it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.records import Record
from experiments.bundle import Predictor
from experiments.config import TrainingConfig
from experiments.data.cohort import Cohort
from experiments.data.folder import open_dataset
from experiments.data.splits import split_fingerprint
from experiments.data.store import Store
from experiments.data_config import DataConfig
from experiments.device import pick_device
from experiments.sources.frames.folder import PREDICTED, Edges, write_records
from experiments.train import train
from experiments.versions import package_versions
from experiments.workspace import git_commit
from fusion.component import Architecture, UsageError
from fusion.task import Task

Targets = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Fitting:
    """How records are fitted; `edges` are further facts (head, relation, tail) of the knowledge graph."""

    architecture: Architecture
    training: TrainingConfig
    seed: int
    tuning: float = 0.15
    preprocess: Mapping[str, Mapping[str, Any]] | None = None
    edges: Edges = ()


def fit_records(
    records: Sequence[Record], targets: Targets, task: Task, fitting: Fitting
) -> tuple[Predictor, list[dict[str, float]]]:
    """Train on records, some of which choose the epoch, and return the model and the scores of its epochs.

    Nothing of the records stays on disk, and the caller's random numbers go on as if nothing had been.

    Shape:
        N records, targets (N,).

    Raises:
        UsageError: there are too few records to keep some for tuning, or a component or setting that cannot be.
    """
    split = tuning_split(targets, fitting.tuning, fitting.seed, by_class=task.kind != "regression")
    subjects = np.arange(len(records), dtype=np.int64)
    times = np.full(len(records), np.datetime64(PREDICTED, "us"))
    if task.kind == "regression":
        learned = targets[split == "train"]
        task = Task(task.kind, task.names, float(learned.mean()), float(learned.std()) or 1.0)
    cohort = Cohort(subjects, times, targets, split, task, "in memory", split_fingerprint(subjects, split))
    with tempfile.TemporaryDirectory(prefix="ehrfusion-") as place, left_alone():
        folder = Path(place) / "data"
        folder.mkdir()
        write_records(folder, records, fitting.edges, "a DataFrame")
        store = Store(open_dataset(folder), cohort, DataConfig(folder=folder), Path(place) / "cache")
        fit = train(fitting.architecture, store, fitting.training, fitting.seed, preprocess=fitting.preprocess)
        fitted = {modality: store.preprocessor(plan) for modality, plan in fit.preparations.items()}
    contract = {
        "dataset": "a DataFrame",
        "label": "y",
        "window_days": None,
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": cohort.split_fingerprint,
        "cohort": {name: len(cohort.rows(name)) for name in ("train", "tuning")},
        "git_commit": git_commit(),
        "seed": fitting.seed,
        "training": fitting.training.model_dump(),
        "versions": package_versions(),
    }
    return Predictor(fit.model, fitting.architecture, task, fitted, contract, {}, pick_device()), fit.history


def tuning_split(targets: Targets, share: float, seed: int, *, by_class: bool) -> NDArray[np.str_]:
    """Keep a share of the rows for tuning, of every class its share; a class of one row is learned from.

    Shape: (N,) -> (N,) of `train` and `tuning`.

    Examples:
        >>> tuning_split(np.array([0, 0, 0, 0, 1]), 0.25, seed=0, by_class=True).tolist().count("tuning")
        1

    Raises:
        UsageError: a share that is none, or nothing can be kept.
    """
    if not 0 < share < 1:
        raise UsageError(f"tuning ({share}) must be between 0 and 1")
    split, dice = np.full(len(targets), "tuning"), np.random.default_rng(seed)
    kinds = targets if by_class else np.zeros(len(targets))
    for kind in np.unique(kinds):
        rows = dice.permutation(np.flatnonzero(kinds == kind))
        kept = min(len(rows) - 1, max(1, round(share * len(rows))))
        split[rows[kept:]] = "train"
    if not (split == "tuning").any():
        what = " of one class" if by_class else ""
        raise UsageError(f"needs at least 2 rows{what}, to keep one for tuning; got n_samples = {len(targets)}")
    return split


@contextmanager
def left_alone() -> Iterator[None]:
    """Leave the random numbers of Python, numpy and torch, and torch's way to compute, as they were."""
    python, numbers = random.getstate(), np.random.get_state()
    exact, fast = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        torch.use_deterministic_algorithms(exact, warn_only=warn)
        torch.backends.cudnn.benchmark = fast
