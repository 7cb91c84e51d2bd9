"""Predictions with modalities taken away: every set of them, from one trained model that knows how to do without."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.preprocessor import Preparation
from experiments.costs import hidden
from experiments.data.store import Store
from experiments.device import pick_device
from experiments.evaluate import predict_sources
from experiments.feeding import sources
from fusion import FusionModel

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


def who_has(plans: Mapping[str, Preparation], store: Store, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which rows have which modality. Shape: rows (N,) -> (M, N)."""
    places = torch.from_numpy(rows)
    return np.stack([(store.source(plan).row_index[places] >= 0).numpy() for plan in plans.values()])
