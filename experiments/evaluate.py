"""Predictions of a trained model for rows of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from encoders.preprocessor import Preparation
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.device import move, pick_device
from experiments.feeding import sources
from experiments.memory import within_memory
from fusion import FusionModel, Task, activate


def predict_rows(
    model: FusionModel,
    plans: Mapping[str, Preparation],
    store: Store,
    rows: NDArray[np.int64],
    batch_size: int = 256,
) -> NDArray[np.float32]:
    """Predict cohort rows in the order given.

    Shape:
        rows (N,) -> (N, K) probabilities, or values in the target's unit.
    """
    device = pick_device()
    splits = tuple(sorted(set(store.cohort.split[rows].tolist())))
    feeds = sources(model, plans, store, splits, device)
    return predict_sources(model.to(device), feeds, store, rows, device, batch_size)


def predict_sources(
    model: nn.Module,
    feeds: Mapping[str, Any],
    store: Store,
    rows: NDArray[np.int64],
    device: torch.device,
    batch_size: int = 256,
    *,
    stacked: Sequence[int] = (),
) -> NDArray[np.float32]:
    """Predict rows from open sources, fewer at once if memory asks for it; the model comes back in the mode it had.

    Args:
        stacked: the number of models, where the model is several in one (see `fusion.stacked`).

    Shape:
        rows (N,) -> (N, K), or (models, N, K).
    """
    training = model.training
    model.eval()
    found = np.empty((*stacked, len(rows), store.task.outputs), np.float32)

    def predict(at_once: int) -> None:
        _fill(found, model, feeds, store, rows, device, at_once)

    try:
        within_memory(predict, max(1, min(batch_size, len(rows))), device)
    finally:
        model.train(training)
    return found


@torch.no_grad()
def _fill(
    found: NDArray[np.float32],
    model: nn.Module,
    feeds: Mapping[str, Any],
    store: Store,
    rows: NDArray[np.int64],
    device: torch.device,
    batch_size: int,
) -> None:
    """Write the predictions of rows into their places. Shape: found (..., N, K), rows (N,)."""
    place = np.full(len(store.cohort.subject_ids), -1, np.int64)
    place[rows] = np.arange(len(rows))
    for batch in iterate_batches(feeds, store.cohort.targets, rows, batch_size, shuffle=None):
        with precision(device):
            logits = model(move(batch.inputs, device))
        found[..., place[batch.rows.numpy()], :] = activate(store.task, logits).cpu().numpy()


def precision(device: torch.device) -> Any:
    """Return the autocast context: bf16 on a GPU that has it, nothing on the CPU, where bf16 is slower."""
    enabled = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def squeeze_outputs(task: Task, predictions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Drop the output axis where a patient has one number. Shape: (..., N, K) -> (..., N) or (..., N, K)."""
    return predictions[..., 0] if task.outputs == 1 else predictions
