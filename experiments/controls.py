"""Controls: what every comparison is held against, trained without any network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.codes.counts import CodeCounts
from encoders.preprocessor import Preparation
from experiments.data.store import Store
from experiments.evaluate import squeeze_outputs
from experiments.metrics import Metric
from fusion import Task

Array = NDArray[Any]
_TREES = 150


@dataclass(frozen=True)
class ControlFit:
    """What a control predicts for the held-out split and the tuning split, and what it scored on the latter.

    Shape:
        predictions, tuning and external (N, K) probabilities, or values in the target's unit.
    """

    predictions: NDArray[np.float32]
    tuning: NDArray[np.float32]
    score: float
    trees: int
    seconds: float
    external: NDArray[np.float32] | None = None


def boosted_counts(store: Store, metric: Metric, seed: int, external: Store | None = None) -> ControlFit:
    """Gradient-boosted trees on counts of codes and summaries of their values: the raw-tabular control.

    The number of trees is the one with the least loss on the tuning split, as early stopping is for a network; few
    patients rank noisily, so it is not chosen by rank. Features are in the units of the record, and what is absent is
    NaN, which trees know how to split on. A patient without coded events is a row of NaN. Patients of another folder
    are predicted by the same trees.

    Reference:
        Friedman, Greedy Function Approximation: A Gradient Boosting Machine, 2001; Gao et al., When Raw Data Prevails,
        2024 (why a comparison of clinical models needs it).
    """
    started = time.monotonic()
    features = _features(store)
    rows = {split: store.cohort.rows(split) for split in ("train", "tuning", "held_out")}
    targets = store.cohort.targets
    labels = targets.T if store.task.kind == "multilabel" else [targets]
    models = [_model(store.task, seed).fit(features[rows["train"]], label[rows["train"]]) for label in labels]

    def staged(table: Array) -> Array:
        """Predictions after each round. Shape: (N, F) -> (rounds, N, K)."""
        each = (np.stack(list(_staged(store.task, model, table))) for model in models)
        return np.concatenate(list(each), axis=-1)

    tuning, truth = staged(features[rows["tuning"]]), targets[rows["tuning"]]
    best = int(np.argmin([_loss(store.task, truth, each) for each in tuning]))
    found = staged(features[rows["held_out"]])[best].astype(np.float32)
    other = staged(_features(external))[best].astype(np.float32) if external is not None else None
    score = metric(truth, squeeze_outputs(store.task, tuning[best]))
    seconds = time.monotonic() - started
    return ControlFit(found, tuning[best].astype(np.float32), float(score), best + 1, seconds, other)


CONTROLS: Mapping[str, Callable[[Store, Metric, int, Store | None], ControlFit]] = {"boosted_counts": boosted_counts}
"""Controls by name; each reads the modality `codes`."""


def plan() -> Preparation:
    """Return how records are prepared for the tabular control."""
    return Preparation("codes", CodeCounts)


def _features(store: Store) -> NDArray[np.float32]:
    """Return the table of all cohort rows. Shape: (N, F)."""
    source = store.source(plan())
    found = source.packed.columns["features"].numpy()
    index = source.row_index.numpy()
    table = np.full((len(index), found.shape[1]), np.nan, np.float32)
    table[index >= 0] = found[index[index >= 0]]
    return table


def _loss(task: Task, target: Array, prediction: Array) -> float:
    """Mean squared error, or mean negative log-likelihood. Shape: (N,) or (N, K), (N, K) -> float."""
    if task.kind == "regression":
        return float(np.mean((prediction[:, 0] - target) ** 2))
    p = np.clip(prediction, 1e-7, 1 - 1e-7)
    if task.kind == "multiclass":
        return float(-np.mean(np.log(p[np.arange(len(p)), target.astype(np.int64)])))
    truth = target.reshape(p.shape)
    return float(-np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p)))


def _model(task: Task, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if task.kind == "regression" else HistGradientBoostingClassifier
    return kind(
        max_iter=_TREES,
        learning_rate=0.05,
        max_leaf_nodes=15,
        l2_regularization=1.0,
        max_features=0.3,
        early_stopping=False,
        random_state=seed % 2**32,
    )


def _staged(task: Task, model: Any, features: Array) -> Iterator[Array]:
    """Yield predictions after each round. Shape: (N, K) with K = 1 but for multiclass."""
    if task.kind == "regression":
        yield from (each[:, None] for each in model.staged_predict(features))
        return
    for each in model.staged_predict_proba(features):
        if task.kind == "multiclass":
            whole = np.zeros((len(each), task.outputs))  # a class that training lacks has probability 0
            whole[:, model.classes_.astype(int)] = each
            yield whole
        else:
            yield each[:, model.classes_ == 1].sum(1, keepdims=True)  # zeros where training has no positive
