"""What else a trial is judged by: size, work, time, memory, the worst group, and doing without a modality."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.device import move, peak_memory_mb
from experiments.evaluate import predict_sources, squeeze_outputs
from experiments.metrics import METRICS, metrics_for, score
from experiments.subgroups import Subgroups
from fusion import FusionModel, Task, UsageError
from fusion.component import unknown

_BYTES = 16  # a trained parameter: itself, its gradient, two moments of AdamW
PATIENTS = 64  # of the tuning split, that latency and work are measured on
COSTS = ("parameters", "flops", "latency_ms", "memory_mb")
"""Less is better. Parameters that are trained; floating-point operations to predict one patient; milliseconds to
predict 64 patients on the worker's device; peak memory of training. A frozen encoder's work is not among them where
its features are computed once and kept."""
SCORES = ("worst_subgroup", "missing_modality")
"""The metric of the worst group of tuning patients, and that of all of them when the modality is taken from everybody
that is missed most; `without_notes` and so on are that for one modality."""
WITHOUT = "without_"


@dataclass(frozen=True)
class Judge:
    """Measures what objectives and limits ask for, on one store."""

    store: Store
    metric: str
    wanted: tuple[str, ...]
    groups: Subgroups
    device: torch.device

    def before(self, model: FusionModel, feeds: Mapping[str, Any]) -> dict[str, float]:
        """Measure what can be known before training; of the memory, only how much it will be at least."""
        found: dict[str, float] = {}
        parameters = sum(each.numel() for each in model.parameters() if each.requires_grad)
        if "parameters" in self.wanted:
            found["parameters"] = float(parameters)
        if "memory_mb" in self.wanted:
            found["memory_mb"] = max(peak_memory_mb(self.device), parameters * _BYTES / 2**20)
        if {"flops", "latency_ms"} & set(self.wanted):
            rows = self.store.cohort.rows("tuning")[:PATIENTS]
            batch = next(iterate_batches(feeds, self.store.cohort.targets, rows, len(rows), shuffle=None))
            inputs, was = move(batch.inputs, self.device), model.training
            model.eval()
            if "flops" in self.wanted:
                found["flops"] = count_flops(model, inputs) / len(rows)
            if "latency_ms" in self.wanted:
                found["latency_ms"] = _latency(model, inputs, self.device)
            model.train(was)
        return found

    def after(self, model: FusionModel, feeds: Mapping[str, Any]) -> dict[str, float]:
        """Measure what a trained model does for the worst group, and without its most important modality."""
        found = {}
        if "worst_subgroup" in self.wanted:
            found["worst_subgroup"] = self._worst(self._by_group(self._scored(model, feeds)))
        without = {name: name.removeprefix(WITHOUT) for name in self.wanted if name.startswith(WITHOUT)}
        hide = [name for name in feeds if "missing_modality" in self.wanted or name in without.values()]
        scores = {name: self._metric(self._scored(model, hidden(feeds, name))) for name in hide}
        if "missing_modality" in self.wanted:
            found["missing_modality"] = self._worst(list(scores.values()))
        for name, modality in without.items():  # who does not look at a modality misses nothing
            found[name] = scores[modality] if modality in scores else self._metric(self._scored(model, feeds))
        return found

    def _scored(self, model: FusionModel, feeds: Mapping[str, Any]) -> NDArray[np.float32]:
        rows = self.store.cohort.rows("tuning")
        return predict_sources(model, feeds, self.store, rows, self.device)

    def _metric(self, predicted: NDArray[np.float32], among: NDArray[np.bool_] | None = None) -> float:
        task, rows = self.store.task, self.store.cohort.rows("tuning")
        here = np.ones(len(rows), np.bool_) if among is None else among
        values = score(task, self.store.cohort.targets[rows][here], squeeze_outputs(task, predicted[here]))
        return float(values[self.metric])

    def _by_group(self, predicted: NDArray[np.float32]) -> list[float]:
        """Return the metric of every group, or of everybody where there is none."""
        values = [self._metric(predicted, here) for here in self.groups.members.values()]
        return [each for each in values if np.isfinite(each)] or [self._metric(predicted)]

    def _worst(self, values: Sequence[float]) -> float:
        return min(values) if METRICS[self.metric].higher_is_better else max(values)


def check_objectives(
    objectives: Sequence[str], limits: Mapping[str, float], metrics: Sequence[str], modalities: Sequence[str] = ()
) -> None:
    """Refuse objectives and limits that do not exist, and objectives that are there twice.

    Raises:
        UsageError: with the nearest name.
    """
    known = (*COSTS, *SCORES, *(WITHOUT + each for each in modalities), *metrics)
    for place, name in enumerate(objectives):
        if name not in known:
            raise unknown("objective", name, known, "search.objectives")
        if name in objectives[:place]:
            raise UsageError(f"search.objectives: '{name}' is there twice")
    for name, limit in limits.items():
        if name not in COSTS:
            raise unknown("limit", name, COSTS, "search.limits")
        if limit <= 0:
            raise UsageError(f"search.limits.{name} must be more than 0; got {limit:g}")


def check_for_task(objectives: Sequence[str], metric: str, task: Task) -> None:
    """Refuse objectives that a kind of task does not have, and the study's own metric, which is always the first.

    Raises:
        UsageError: the first of them.
    """
    own = [each.name for each in metrics_for(task.kind)]
    for name in objectives:
        if name in METRICS and name not in own:
            raise unknown(f"objective for a {task.kind} task", name, own, "search.objectives")
        if name == metric:
            raise UsageError(f"search.objectives: '{name}' is the study's own metric, and its first objective already")


def higher_is_better(objective: str, metric: str) -> bool:
    """Tell the direction of an objective."""
    if objective in COSTS:
        return False
    by_metric = objective in SCORES or objective.startswith(WITHOUT)
    return METRICS[metric if by_metric else objective].higher_is_better


def hidden(feeds: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """Return the feeds with one modality taken from everybody."""
    feed = feeds[modality]
    return {**feeds, modality: replace(feed, row_index=torch.full_like(feed.row_index, -1))}


def count_flops(model: Callable[[Any], Any], inputs: Mapping[str, Any]) -> float:
    """Count the floating-point operations of a forward pass: matrix products, convolutions, attention; no look-ups."""
    # its bookkeeping of modules fails where no gradient is kept
    with _countable_kernels(), FlopCounterMode(display=False) as counter:
        model(inputs)
    return float(counter.get_total_flops())


def training_flops(forward: float, patients: int) -> float:
    """Return the operations of an epoch from those of a forward pass for one patient.

    Reference:
        Kaplan et al., Scaling Laws for Neural Language Models, 2020: a backward pass costs two forward passes.
    """
    return 3 * forward * patients


@contextmanager
def _countable_kernels() -> Iterator[None]:
    """Let recurrent layers and attention be matrix products: the fused kernels of some devices count as nothing."""
    libraries: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [each.enabled for each in libraries]
    try:
        for each in libraries:
            each.enabled = False
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for each, enabled in zip(libraries, before, strict=True):
            each.enabled = enabled


def _latency(model: FusionModel, inputs: Mapping[str, Any], device: torch.device) -> float:
    """Return the median time of a forward pass in milliseconds."""
    finish: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    took = []
    with torch.no_grad():
        for _ in range(9):
            finish()
            start = time.perf_counter()
            model(inputs)
            finish()
            took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took[2:]))
