"""Metrics by kind of task; rank-based and weighted, so that a bootstrap can use them a thousand times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.compare_config import CompareConfig
from experiments.config import TrainingConfig
from experiments.statistics.means import OfMeans
from experiments.statistics.sets import f1, jaccard, mean_of_defined, precision_of_rows
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
    "auprc_samples": "AUPRC (mean over rows)",
    "jaccard": "Jaccard index",
    "f1": "F1 (mean over rows)",
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


def squared_error(target: Array, prediction: Array) -> Array:
    """Squared error of each row, summed over classes where there are several. Shape: (N,) or (N, K) -> (N, 1)."""
    truth = target if prediction.ndim == 1 else _one_hot(target, prediction.shape[1])
    error = (prediction.astype(np.float64) - truth) ** 2
    return error[:, None] if error.ndim == 1 else error.sum(1, keepdims=True)


def surprise(target: Array, prediction: Array) -> Array:
    """Negative log-likelihood of each row. Shape: (N,) or (N, K) -> (N, 1)."""
    p = np.clip(prediction.astype(np.float64), 1e-7, 1 - 1e-7)
    if p.ndim == 1:
        return -(target * np.log(p) + (1 - target) * np.log(1 - p))[:, None]
    return -np.log(p[np.arange(len(p)), target.astype(np.int64)])[:, None]


def miscalibration(target: Array, prediction: Array) -> Array:
    """Hit minus confidence, in the row's bin of ten of equal width; of the winning class where there are several.

    The expected calibration error is the sum over bins of the size of the mean.

    Shape:
        (N,), or (N,) and (N, K) -> (N, 10).

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    if prediction.ndim == 2:
        target, prediction = (prediction.argmax(1) == target).astype(float), prediction.max(1)
    place = np.clip((prediction * _BINS).astype(int), 0, _BINS - 1)
    found = np.zeros((len(place), _BINS))
    found[np.arange(len(place)), place] = target - prediction.astype(np.float64)
    return found


def hit(target: Array, prediction: Array) -> Array:
    """Whether the most probable class of each row is right. Shape: (N,) and (N, K) -> (N, 1)."""
    return (prediction.argmax(1) == target).astype(float)[:, None]


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


def absolute_error(target: Array, prediction: Array) -> Array:
    """Absolute error of each row, in the target's unit. Shape: (N,) -> (N, 1)."""
    return np.abs(prediction.astype(np.float64) - target)[:, None]


def _error_and_moments(target: Array, prediction: Array) -> Array:
    """Return squared error, target and its square; centred, so that the moments lose no digits. Shape: (N, 3)."""
    centred = target.astype(np.float64) - target.mean()
    return np.stack([(prediction.astype(np.float64) - target) ** 2, centred, centred**2], axis=1)


def _explained(means: Array) -> Array:
    """Return the share of the target's variance that is explained; NaN where it has none. Shape: (..., 3) -> (...)."""
    error, mean, square = means[..., 0], means[..., 1], means[..., 2]
    variance = square - mean**2
    share = np.full(np.shape(error), np.nan)
    np.divide(error, variance, out=share, where=variance > 1e-12 * square)
    return 1 - share


def _root(means: Array) -> Array:
    return np.sqrt(means[..., 0])


def _total_size(means: Array) -> Array:
    return np.abs(means).sum(-1)


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("auroc", auroc, True, ("binary",)),
        Metric("auprc", auprc, True, ("binary",)),
        Metric("auroc_ovr", auroc_ovr, True, ("multiclass",)),
        Metric("accuracy", OfMeans(hit), True, ("multiclass",)),
        Metric("auroc_macro", auroc_macro, True, ("multilabel",)),
        Metric("auroc_micro", auroc_micro, True, ("multilabel",)),
        Metric("auprc_macro", auprc_macro, True, ("multilabel",)),
        Metric("auprc_samples", OfMeans(precision_of_rows, mean_of_defined), True, ("multilabel",)),
        Metric("jaccard", OfMeans(jaccard), True, ("multilabel",)),
        Metric("f1", OfMeans(f1), True, ("multilabel",)),
        Metric("brier", OfMeans(squared_error), False, ("binary", "multiclass")),
        Metric("ece", OfMeans(miscalibration, _total_size), False, ("binary", "multiclass")),
        Metric("log_loss", OfMeans(surprise), False, ("binary", "multiclass")),
        Metric("rmse", OfMeans(squared_error, _root), False, ("regression",)),
        Metric("mae", OfMeans(absolute_error), False, ("regression",)),
        Metric("r2", OfMeans(_error_and_moments, _explained), True, ("regression",)),
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


def _nanmean(values: list[float]) -> float:
    defined = [value for value in values if np.isfinite(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _one_hot(target: Array, classes: int) -> Array:
    return np.eye(classes)[target.astype(np.int64)]
