"""What a run learns from which patients, and how its epochs are judged: the task of a cohort, unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.config import TrainingConfig
from experiments.criterion import make_criterion
from experiments.data.store import Store
from experiments.metrics import Metric, selection_metric
from experiments.strategies import Strategies, make_strategies
from experiments.tasks.interactions import label_interactions
from fusion import FusionModel

if TYPE_CHECKING:
    from experiments.loop import Run


class Aim(NamedTuple):
    """What the training loop is for.

    `measure` judges an epoch; without it the outputs for the rows of `tuning` are scored by the metric.

    Shape:
        targets (N,) or (N, K), one of each cohort row; learned and tuning, row numbers.
    """

    metric: Metric
    strategies: Strategies
    targets: NDArray[Any]
    learned: NDArray[np.int64]
    tuning: NDArray[np.int64]
    measure: Callable[[Run], dict[str, float]] | None = None


def aim_of_task(model: FusionModel, store: Store, training: TrainingConfig, device: torch.device) -> Aim:
    """Return the aim of supervised training: the labels of the train split, judged on the tuning split."""
    learned, tuning = store.cohort.rows("train"), store.cohort.rows("tuning")
    wanted = training.interaction_target is not None
    interactions = label_interactions(store.dataset, store.config.labels, store.task) if wanted else None
    strategies = make_strategies(model, make_criterion(store, training, learned, device), training, interactions)
    return Aim(selection_metric(store.task, training), strategies, store.cohort.targets, learned, tuning)
