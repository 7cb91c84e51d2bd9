"""The same work for every contender: epochs so that all train the same number of floating-point operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from experiments.config import TrainingConfig
from experiments.contenders import Contender
from experiments.costs import PATIENTS, count_flops
from experiments.data.batches import iterate_batches
from experiments.data.store import Store
from experiments.feeding import build_model, preparations, sources, with_molecules
from fusion import Architecture

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Work:
    """The floating-point operations to predict one patient, and the epochs that the budget buys."""

    flops: float
    epochs: int


def flops_of(architecture: Architecture, store: Store, preprocess: Mapping[str, Mapping[str, Any]]) -> float:
    """Count the operations of a forward pass for one patient of the tuning split, on average."""
    architecture = with_molecules(architecture, store)
    plans = preparations(architecture, preprocess)
    store.prepare(list(plans.values()))
    fitted = {modality: store.preprocessor(plan) for modality, plan in plans.items()}
    model = build_model(architecture, fitted, store.task.outputs).eval()
    feeds = sources(model, plans, store, ("tuning",), _CPU)
    rows = store.cohort.rows("tuning")[:PATIENTS]
    batch = next(iterate_batches(feeds, store.cohort.targets, rows, len(rows), shuffle=None))
    return count_flops(model, batch.inputs) / len(rows)


def with_equal_work(
    strategies: Mapping[str, Contender],
    reference: Architecture,
    training: TrainingConfig,
    store: Store,
    preprocess: Mapping[str, Mapping[str, Any]],
) -> tuple[dict[str, Contender], dict[str, Work]]:
    """Give every network the epochs, and the patience, that cost what the reference's do; at least one epoch.

    A backward pass costs a fixed multiple of the forward pass, so forward operations are enough to compare.
    """
    whole = training.epochs * flops_of(reference, store, preprocess)
    found, works = {}, {}
    for name, contender in strategies.items():
        found[name] = contender
        if contender.architecture is None:
            continue
        flops = flops_of(contender.architecture, store, preprocess)
        epochs = max(1, round(whole / flops))
        patience = max(1, round(training.patience * epochs / training.epochs))
        found[name] = replace(contender, training={**contender.training, "epochs": epochs, "patience": patience})
        works[name] = Work(flops, epochs)
    return found, works
