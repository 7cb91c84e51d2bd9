"""The loss that a run minimises, with what is done about rare classes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.config import TrainingConfig
from experiments.data.store import Store
from fusion import Criterion


def make_criterion(store: Store, training: TrainingConfig, rows: NDArray[np.int64], device: torch.device) -> Criterion:
    """Return the loss of a run; class weights say how rare positives (or classes) are in the train split."""
    task, targets = store.task, store.cohort.targets[rows]
    weight = None
    if training.class_weights and task.kind == "multiclass":
        counts = np.bincount(targets.astype(np.int64), minlength=task.outputs).clip(min=1)
        weight = len(rows) / (task.outputs * counts)
    elif training.class_weights and task.kind != "regression":
        positives = targets.reshape(len(rows), -1).sum(0).clip(min=1)
        weight = (len(rows) - positives).clip(min=1) / positives
    tensor = None if weight is None else torch.as_tensor(weight, dtype=torch.float32, device=device)
    return Criterion(task, tensor, training.label_smoothing, training.focal_gamma)
