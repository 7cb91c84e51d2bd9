"""Fitting a model to records in memory: a private data folder, the one training loop, and what came of it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from encoders.records import Record, UnreadableImage
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
    records: Sequence[Record], targets: Targets, task: Task, fitting: Fitting, groups: ArrayLike | None = None
) -> tuple[Predictor, list[dict[str, float]]]:
    """Train on records, some of which choose the epoch, and return the model and the scores of its epochs.

    Nothing of the records stays on disk, and the caller's random numbers go on as if nothing had been.

    Shape:
        N records, targets (N,); groups (N,): whose each record is, if several are one patient's.

    Raises:
        UsageError: there are too few records to keep some for tuning, or a component or setting that cannot be.
    """
    split = tuning_split(targets, fitting.tuning, fitting.seed, by_class=task.kind != "regression", groups=groups)
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
        try:
            fit = train(fitting.architecture, store, fitting.training, fitting.seed, preprocess=fitting.preprocess)
        except UnreadableImage as error:  # its path is that of the copy, which has its number
            paths = list(dict.fromkeys(image.path for record in records for image in record.images))
            raise in_row(UnreadableImage(paths[int(error.path.stem) - 1], error.why), records) from None
        fitted = {modality: store.preprocessor(plan) for modality, plan in fit.preparations.items()}
    contract = {
        "dataset": "a DataFrame",
        "label": "y",
        "window_days": None,
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": cohort.split_fingerprint,
        "cohort": {name: len(cohort.rows(name)) for name in ("train", "tuning")},
        "seed": fitting.seed,
        "training": fitting.training.model_dump(),
        **_origin(),
    }
    return Predictor(fit.model, fitting.architecture, task, fitted, contract, {}, pick_device()), fit.history


def tuning_split(
    targets: Targets, share: float, seed: int, *, by_class: bool, groups: ArrayLike | None = None
) -> NDArray[np.str_]:
    """Keep a share of the rows for tuning, of every class its share; a class of one row is learned from.

    Groups stay together; the class of one is that of its first row.

    Shape:
        targets and groups (N,) -> (N,) of `train` and `tuning`.

    Examples:
        >>> tuning_split(np.array([0, 0, 0, 0, 1]), 0.25, seed=0, by_class=True).tolist().count("tuning")
        1

    Raises:
        UsageError: a share that is none, or nothing can be kept.
    """
    if not 0 < share < 1:
        raise UsageError(f"tuning ({share}) must be between 0 and 1")
    if groups is not None:
        _, first, whose = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
        return tuning_split(targets[first], share, seed, by_class=by_class)[whose]
    split, dice = np.full(len(targets), "tuning"), np.random.default_rng(seed)
    kinds = targets if by_class else np.zeros(len(targets))
    for kind in np.unique(kinds):
        rows = dice.permutation(np.flatnonzero(kinds == kind))
        kept = min(len(rows) - 1, max(1, round(share * len(rows))))
        split[rows[kept:]] = "train"
    if not (split == "tuning").any():
        what = " of one class" if by_class else ""
        raise UsageError(f"needs at least 2 patients{what}, to keep one for tuning; got n_samples = {len(targets)}")
    return split


def in_row(error: UnreadableImage, records: Sequence[Record]) -> UnreadableImage:
    """Return the error of an image with the row of the record that has it."""
    row = next(i for i, each in enumerate(records) if any(image.path == error.path for image in each.images))
    return UnreadableImage(error.path, error.why, f"row {row}")


@cache
def _origin() -> dict[str, Any]:
    """Say which code trains; that does not change while it runs."""
    return {"git_commit": git_commit(), "versions": package_versions()}


@contextmanager
def left_alone() -> Iterator[None]:
    """Leave the random numbers of Python, numpy and torch, and torch's way to compute, as they were."""
    python, numbers = random.getstate(), np.random.get_state()
    exact, fast = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        torch.use_deterministic_algorithms(exact, warn_only=warn)
        torch.backends.cudnn.benchmark = fast
