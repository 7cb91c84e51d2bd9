"""Metrics by kind of task; rank-based and weighted, so that a bootstrap can use them a thousand times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.config import CompareConfig, TrainingConfig
from fusion.component import unknown
from fusion.task import Kind, Task

Array = NDArray[Any]
MetricFunction = Callable[[Array, Array, Array], float]
_BINS = 10
_NAMES = {
    "auroc": "AUROC",
    "auroc_ovr": "AUROC (one against the rest)",
    "auroc_macro": "AUROC (mean over labels)",
    "auroc_micro": "AUROC (pooled labels)",
    "auprc": "AUPRC",
    "auprc_macro": "AUPRC (mean over labels)",
    "brier": "Brier score",
    "ece": "calibration error",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R\u00b2",
}


@dataclass(frozen=True)
class Metric:
    """A metric of targets, predictions and row weights; NaN where it is not defined (one class only)."""

    name: str
    function: MetricFunction
    higher_is_better: bool
    kinds: tuple[Kind, ...]

    def __call__(self, target: Array, prediction: Array, weight: Array | None = None) -> float:
        """Evaluate, each row counting once or as often as its weight says.

        Shape:
            target and prediction (N,) or (N, K); weight (N,) -> float.
        """
        return self.function(target, prediction, np.ones(len(target)) if weight is None else weight)


def metric_name(name: str) -> str:
    """Return what a metric is called in print."""
    return _NAMES.get(name, name.replace("_", " "))


def auroc(target: Array, prediction: Array, weight: Array) -> float:
    """Area under the ROC curve: P(a positive scores above a negative), ties counting half."""
    value, place = np.unique(prediction, return_inverse=True)
    positive = np.bincount(place, weight * target, len(value))
    negative = np.bincount(place, weight * (1 - target), len(value))
    if positive.sum() <= 0 or negative.sum() <= 0:
        return float("nan")
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def auprc(target: Array, prediction: Array, weight: Array) -> float:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    value, place = np.unique(-prediction, return_inverse=True)
    positive = np.bincount(place, weight * target, len(value))
    counted = np.bincount(place, weight, len(value))
    if positive.sum() <= 0:
        return float("nan")
    precision = np.cumsum(positive) / np.cumsum(counted).clip(min=1e-300)
    return float((precision * positive).sum() / positive.sum())


def brier(target: Array, prediction: Array, weight: Array) -> float:
    """Mean squared error of probabilities, summed over classes where there are several."""
    truth = target if prediction.ndim == 1 else _one_hot(target, prediction.shape[1])
    error = (prediction.astype(np.float64) - truth) ** 2
    return _mean(error if error.ndim == 1 else error.sum(1), weight)


def log_loss(target: Array, prediction: Array, weight: Array) -> float:
    """Mean negative log-likelihood."""
    p = np.clip(prediction.astype(np.float64), 1e-7, 1 - 1e-7)
    if p.ndim == 1:
        return _mean(-(target * np.log(p) + (1 - target) * np.log(1 - p)), weight)
    return _mean(-np.log(p[np.arange(len(p)), target.astype(np.int64)]), weight)


def ece(target: Array, prediction: Array, weight: Array) -> float:
    """Expected calibration error over ten bins of equal width; of the winning class where there are several.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    if prediction.ndim == 2:
        target, prediction = (prediction.argmax(1) == target).astype(float), prediction.max(1)
    place = np.clip((prediction * _BINS).astype(int), 0, _BINS - 1)
    hits, confidence = (
        np.bincount(place, weight * target, _BINS),
        np.bincount(place, weight * prediction, _BINS),
    )
    return float(np.abs(hits - confidence).sum() / weight.sum())


def accuracy(target: Array, prediction: Array, weight: Array) -> float:
    """Share of patients whose most probable class is right."""
    return _mean((prediction.argmax(1) == target).astype(float), weight)


def auroc_ovr(target: Array, prediction: Array, weight: Array) -> float:
    """AUROC of each class against the rest, averaged over the classes that occur."""
    found = [auroc((target == k).astype(float), prediction[:, k], weight) for k in range(prediction.shape[1])]
    return _nanmean(found)


def auroc_macro(target: Array, prediction: Array, weight: Array) -> float:
    """AUROC of each label, averaged over the labels that have both outcomes."""
    return _nanmean([auroc(target[:, k], prediction[:, k], weight) for k in range(target.shape[1])])


def auroc_micro(target: Array, prediction: Array, weight: Array) -> float:
    """AUROC over all pairs of patient and label."""
    return auroc(target.ravel(), prediction.ravel(), np.repeat(weight, target.shape[1]))


def auprc_macro(target: Array, prediction: Array, weight: Array) -> float:
    """Average precision of each label, averaged over the labels that occur."""
    return _nanmean([auprc(target[:, k], prediction[:, k], weight) for k in range(target.shape[1])])


def rmse(target: Array, prediction: Array, weight: Array) -> float:
    """Root of the mean squared error, in the target's unit."""
    return float(np.sqrt(_mean((prediction.astype(np.float64) - target) ** 2, weight)))


def mae(target: Array, prediction: Array, weight: Array) -> float:
    """Mean absolute error, in the target's unit."""
    return _mean(np.abs(prediction.astype(np.float64) - target), weight)


def r2(target: Array, prediction: Array, weight: Array) -> float:
    """Share of the target's variance that is explained."""
    centre = _mean(target, weight)
    total = _mean((target.astype(np.float64) - centre) ** 2, weight)
    return float("nan") if total <= 0 else 1 - _mean((prediction.astype(np.float64) - target) ** 2, weight) / total


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auroc", auroc, True, ("binary",)),
        Metric("auprc", auprc, True, ("binary",)),
        Metric("auroc_ovr", auroc_ovr, True, ("multiclass",)),
        Metric("accuracy", accuracy, True, ("multiclass",)),
        Metric("auroc_macro", auroc_macro, True, ("multilabel",)),
        Metric("auroc_micro", auroc_micro, True, ("multilabel",)),
        Metric("auprc_macro", auprc_macro, True, ("multilabel",)),
        Metric("brier", brier, False, ("binary", "multiclass")),
        Metric("ece", ece, False, ("binary", "multiclass")),
        Metric("log_loss", log_loss, False, ("binary", "multiclass")),
        Metric("rmse", rmse, False, ("regression",)),
        Metric("mae", mae, False, ("regression",)),
        Metric("r2", r2, True, ("regression",)),
    )
}
_DEFAULT: Mapping[Kind, str] = {
    "binary": "auroc",
    "multiclass": "auroc_ovr",
    "multilabel": "auroc_macro",
    "regression": "rmse",
}


def default_metric(kind: Kind) -> Metric:
    """Return the metric that picks models of a kind of task unless the user says otherwise."""
    return METRICS[_DEFAULT[kind]]


def selection_metric(task: Task, training: TrainingConfig) -> Metric:
    """Return the metric that picks the best epoch and the best trial.

    Raises:
        UsageError: there is no such metric for this kind of task.
    """
    return _named(task, training.metric, "training.metric") or default_metric(task.kind)


def primary_metric(task: Task, compare: CompareConfig, training: TrainingConfig) -> Metric:
    """Return the metric that a comparison is decided by: the one stated for it, or else the one that picks epochs.

    Raises:
        UsageError: there is no such metric for this kind of task.
    """
    return _named(task, compare.primary, "compare.primary") or selection_metric(task, training)


def _named(task: Task, name: str | None, where: str) -> Metric | None:
    known = {metric.name: metric for metric in metrics_for(task.kind)}
    if name is not None and name not in known:
        raise unknown(f"metric for a {task.kind} task", name, known, where)
    return known[name] if name is not None else None


def metrics_for(kind: Kind) -> list[Metric]:
    """Return all metrics of a kind of task."""
    return [metric for metric in METRICS.values() if kind in metric.kinds]


def score(task: Task, target: Array, prediction: Array) -> dict[str, float]:
    """Evaluate all metrics of a task. Shape: target and prediction (N,) or (N, K)."""
    return {metric.name: metric(target, prediction) for metric in metrics_for(task.kind)}


def _mean(values: Array, weight: Array) -> float:
    return float((values * weight).sum() / weight.sum())


def _nanmean(values: list[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _one_hot(target: Array, classes: int) -> Array:
    return np.eye(classes)[target.astype(np.int64)]
