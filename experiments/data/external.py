"""Patients of another data folder, in the eyes of preparations that were fitted on the patients of a store."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data.cohort import Cohort, read_targets
from experiments.data.folder import open_dataset
from experiments.data.splits import split_fingerprint
from experiments.data.store import Store
from fusion import Task, UsageError


def external_store(store: Store, folder: Path) -> Store:
    """Return a store of all labelled patients of another folder, every one of them held out.

    The label has the same name there. Nothing is fitted on these patients: preparations and the scale of a number are
    those of the training patients of `store`.

    Raises:
        UsageError: no such folder or label; a label of another kind, or with classes that nobody was trained on.
    """
    dataset = open_dataset(folder)
    labels = store.config.labels
    keys, targets, kind, names = read_targets(dataset, labels)
    path = dataset.label_path(labels)
    if kind != store.task.kind:
        raise UsageError(f"compare.external: {path} is {kind}, but the labels trained on are {store.task.kind}")
    targets = _as_trained(path, targets, names, store.task)
    subjects = keys["subject_id"].to_numpy().astype(np.int64)
    times = keys["prediction_time"].to_numpy().astype("datetime64[us]")
    split = np.full(len(subjects), "held_out")
    digest = hashlib.sha256(subjects.tobytes() + times.tobytes() + targets.tobytes()).hexdigest()
    cohort = Cohort(subjects, times, targets, split, store.task, digest, split_fingerprint(subjects, split))
    return Store(dataset, cohort, store.config, store.cache, fitted_by=store)


def _as_trained(
    path: Path, targets: NDArray[np.float32] | NDArray[np.int64], names: tuple[str, ...], task: Task
) -> NDArray[np.float32] | NDArray[np.int64]:
    """Number classes, or order labels, as in training. Shape: (N,) or (N, K), the same."""
    if task.kind not in ("multiclass", "multilabel"):
        return targets
    new = sorted(set(names) - set(task.names))
    if new and task.kind == "multiclass":
        raise UsageError(
            f"compare.external: {path}: nobody was trained on the class '{new[0]}'; got {', '.join(names)}"
        )
    if task.kind == "multiclass":
        return np.array([task.names.index(each) for each in names])[targets]
    if set(names) != set(task.names):
        raise UsageError(
            f"compare.external: {path}: expected the labels {', '.join(task.names)}; got {', '.join(names)}"
        )
    return targets[:, [names.index(each) for each in task.names]]
