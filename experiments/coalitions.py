"""Predictions with modalities taken away: every set of them, from one trained model that knows how to do without."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.preprocessor import Preparation
from experiments.costs import hidden
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.device import move, pick_device
from experiments.evaluate import predict_sources
from experiments.feeding import sources
from fusion import FusionModel
from fusion.tokens import present

_BATCH = 256
MOST = 6
"""Modalities up to which all sets of them are predicted from: 64 sets."""


def coalition_predictions(
    model: FusionModel, plans: Mapping[str, Preparation], store: Store, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Predict rows from every set of modalities; set `s` has the modality at place `j` where bit `j` of `s` is 1.

    What is not in the set is hidden from everybody; what a patient lacks stays absent. The first set is empty, the
    last has everything there is.

    Shape:
        rows (N,) -> (2**M, N, K) probabilities, or values in the target's unit.
    """
    device = pick_device()
    splits = tuple(sorted(set(store.cohort.split[rows].tolist())))
    feeds = sources(model, plans, store, splits, device)
    model = model.to(device)
    found = []
    for members in range(2 ** len(plans)):
        shown = dict(feeds)
        for place, modality in enumerate(plans):
            if not members >> place & 1:
                shown = hidden(shown, modality)
        found.append(predict_sources(model, shown, store, rows, device))
    return np.stack(found)


@torch.no_grad()
def mean_weights(
    model: FusionModel, plans: Mapping[str, Preparation], store: Store, rows: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Return how much a fusion lets each modality count, in the mean over rows that have it; None without such weights.

    A fusion that has a view a modality (late, gated and stacking) has them in the order of its encoders. NaN where
    nobody has a modality.

    Shape:
        rows (N,) -> (M,).
    """
    device, count = pick_device(), len(plans)
    feeds = sources(model, plans, store, tuple(sorted(set(store.cohort.split[rows].tolist()))), device)
    model = model.to(device).eval()
    total, patients = torch.zeros(count, device=device), torch.zeros(count, device=device)
    for batch in iterate_batches(feeds, store.cohort.targets, rows, _BATCH, shuffle=None):
        inputs = move(batch.inputs, device)
        weights = model.fuse(inputs).weights
        if weights.shape[1] != count or count < 2:
            return None
        has = torch.stack([present(inputs[name].mask) for name in plans], dim=1)
        total += (weights * has).sum(0)
        patients += has.sum(0)
    return (total / patients).cpu().numpy()


def who_has(plans: Mapping[str, Preparation], store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows have which modality. Shape: rows (N,) -> (M, N)."""
    places = torch.from_numpy(rows)
    return np.stack([(store.source(plan).row_index[places] >= 0).numpy() for plan in plans.values()])
