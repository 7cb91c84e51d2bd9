"""What else a trial is judged by: size, work, time, memory, the worst group, and doing without a modality."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from encoders.preprocessor import Preparation
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.device import move
from experiments.evaluate import predict_sources, squeeze_outputs
from experiments.metrics import METRICS, score
from fusion import FusionModel, UsageError
from fusion.component import unknown

PATIENTS = 64  # of the tuning split, that latency and work are measured on
LEAST = 20  # patients in a group whose score means anything
COSTS = ("parameters", "flops", "latency_ms", "memory_mb")
"""Less is better. Parameters that are trained; floating-point operations to predict one patient; milliseconds to
predict 64 patients on the worker's device; peak memory of training."""
SCORES = ("worst_subgroup", "missing_modality")
"""The metric of the worst group of tuning patients, and that of all of them when the modality is taken from everybody
that is missed most."""
BEFORE = ("parameters", "flops", "latency_ms")  # known before anything is trained


@dataclass(frozen=True)
class Judge:
    """Measures what objectives and limits ask for, on one store."""

    store: Store
    metric: str
    wanted: tuple[str, ...]
    groups: Mapping[str, NDArray[np.bool_]]
    device: torch.device

    def before(self, model: FusionModel, feeds: Mapping[str, Any]) -> dict[str, float]:
        """Measure what can be known before training."""
        found: dict[str, float] = {}
        if "parameters" in self.wanted:
            found["parameters"] = float(sum(each.numel() for each in model.parameters() if each.requires_grad))
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
        if "missing_modality" in self.wanted:
            without = [self._metric(self._scored(model, hidden(feeds, name))) for name in feeds]
            found["missing_modality"] = self._worst(without)
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
        values = [self._metric(predicted, here) for here in self.groups.values()]
        return [each for each in values if np.isfinite(each)] or [self._metric(predicted)]

    def _worst(self, values: Sequence[float]) -> float:
        return min(values) if METRICS[self.metric].higher_is_better else max(values)


def check_objectives(objectives: Sequence[str], limits: Mapping[str, float], metrics: Sequence[str]) -> None:
    """Refuse objectives and limits that do not exist.

    Raises:
        UsageError: with the nearest name.
    """
    for name in objectives:
        if name not in (*COSTS, *SCORES, *metrics):
            raise unknown("objective", name, (*COSTS, *SCORES, *metrics), "search.objectives")
    for name, limit in limits.items():
        if name not in COSTS:
            raise unknown("limit", name, COSTS, "search.limits")
        if limit <= 0:
            raise UsageError(f"search.limits.{name} must be more than 0; got {limit:g}")


def higher_is_better(objective: str, metric: str) -> bool:
    """Tell the direction of an objective."""
    if objective in COSTS:
        return False
    return METRICS[metric if objective in SCORES else objective].higher_is_better


def hidden(feeds: Mapping[str, Any], modality: str) -> dict[str, Any]:
    """Return the feeds with one modality taken from everybody."""
    feed = feeds[modality]
    return {**feeds, modality: replace(feed, row_index=torch.full_like(feed.row_index, -1))}


def subgroups(store: Store, plans: Sequence[Preparation], prefixes: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return groups of tuning patients: by what kinds of records they have, and by codes that begin with a prefix.

    A code counts if the patient has it at any time up to the prediction, or without a time; who has none with a prefix
    is in no group of it. Groups that are too small or have one outcome only are left out.

    Args:
        plans: one preparation a modality.

    Shape:
        each (N,) bool over the tuning rows.
    """
    rows = store.cohort.rows("tuning")
    has = {plan.modality: (store.source(plan).row_index[torch.from_numpy(rows)] >= 0).numpy() for plan in plans}
    patterns = np.array([" + ".join(name for name in has if has[name][i]) or "nothing" for i in range(len(rows))])
    found = {f"has {each}": patterns == each for each in np.unique(patterns)}
    if prefixes:
        found |= _by_code(store, rows, prefixes)
    targets = store.cohort.targets[rows]
    return {
        name: here
        for name, here in found.items()
        if here.sum() >= LEAST and (store.task.kind == "regression" or len(np.unique(targets[here], axis=0)) > 1)
    }


def count_flops(model: FusionModel, inputs: Mapping[str, Any]) -> float:
    """Count the floating-point operations of a forward pass."""
    with FlopCounterMode(display=False) as counter:  # its bookkeeping of modules fails where no gradient is kept
        model(inputs)
    return float(counter.get_total_flops())


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


def _by_code(store: Store, rows: NDArray[np.int64], prefixes: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    wanted = pl.any_horizontal([pl.col("code").str.starts_with(prefix) for prefix in prefixes])
    columns = ("subject_id", "time", "code")
    events = pl.concat(
        [pl.scan_parquet(path).select(columns).filter(wanted) for path in store.dataset.shards]
    ).collect()
    cohort = store.cohort
    asked = pl.DataFrame(
        {
            "place": np.arange(len(rows)),
            "subject_id": cohort.subject_ids[rows],
            "until": cohort.prediction_times[rows],
        }
    )
    known = asked.join(events.with_columns(pl.col("subject_id").cast(pl.Int64)), on="subject_id")
    known = known.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("until")))
    found: dict[str, NDArray[np.bool_]] = {}
    for (code,), table in known.group_by("code"):
        here = np.zeros(len(rows), np.bool_)
        here[table["place"].to_numpy()] = True
        found[str(code)] = here
    return found
