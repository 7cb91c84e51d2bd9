"""What a model is fed: packed inputs of each modality, or the cached features of a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from encoders import ENCODERS
from encoders.heads import HEADS, LINEAR
from encoders.molecules import label_molecules
from encoders.preprocessor import Preparation, preparation
from experiments.data.store import Store
from experiments.features import feature_source
from fusion import FUSIONS, FusionModel
from fusion.component import Architecture, Spec, UsageError, build, find, unknown

Preprocess = Mapping[str, Mapping[str, Any]]


def preparations(architecture: Architecture, preprocess: Preprocess) -> dict[str, Preparation]:
    """Return how each modality of an architecture must be prepared.

    Raises:
        UsageError: unknown modality, encoder, hyperparameter or preprocessing option.
    """
    if not architecture.encoders:
        raise UsageError("an architecture needs at least one encoder; got none")
    for modality in (*architecture.encoders, *preprocess):
        if modality not in ENCODERS:
            raise unknown("modality", modality, ENCODERS)
    return {
        modality: preparation(ENCODERS[modality], modality, spec, preprocess.get(modality))
        for modality, spec in architecture.encoders.items()
    }


def build_model(
    architecture: Architecture,
    preprocessors: Mapping[str, Any],
    outputs: int,
    modality_dropout: float = 0.0,
) -> FusionModel:
    """Construct the network an architecture describes from fitted preprocessors."""
    encoders = {
        modality: build(
            ENCODERS[modality], spec, preprocessors[modality], architecture.dim, where=f"encoders.{modality}"
        )
        for modality, spec in architecture.encoders.items()
    }
    fusion = build(FUSIONS, architecture.fusion, list(encoders), architecture.dim, where="fusion")
    head = build(HEADS, architecture.head, architecture.dim, outputs, where="head")
    return FusionModel(encoders, fusion, architecture.dim, outputs, modality_dropout, head)


def with_molecules(architecture: Architecture, store: Store) -> Architecture:
    """Tell a head that scores drugs by their molecules what these are; other architectures stay as they are.

    Raises:
        UsageError: the task has not several labels, or no molecule of any is known.
    """
    head, task = architecture.head, store.task
    if head.name == LINEAR or "molecules" in head.params:
        return architecture
    if task.kind != "multilabel":
        raise UsageError(f"head: '{head.name}' scores a label for each drug, a multilabel task; got a {task.kind} task")
    known = label_molecules(task.names, store.knowledge().smiles)
    if not any(known):
        raise UsageError(
            f"head: '{head.name}' knows no molecule of the labels {', '.join(task.names[:3])}...; name them by ATC "
            "codes or classes, and give metadata/codes.parquet a column smiles"
        )
    return replace(architecture, head=Spec(head.name, {**head.params, "molecules": known}))


def check_architecture(architecture: Architecture) -> None:
    """Check every name and hyperparameter without building anything."""
    for modality, spec in architecture.encoders.items():
        if modality not in ENCODERS:
            raise unknown("modality", modality, ENCODERS)
        find(ENCODERS[modality], spec, f"encoders.{modality}")
    find(FUSIONS, architecture.fusion, "fusion")
    find(HEADS, architecture.head, "head")


def sources(
    model: FusionModel,
    plans: Mapping[str, Preparation],
    store: Store,
    splits: tuple[str, ...],
    device: torch.device,
) -> dict[str, Any]:
    """Return a source a modality: cached features where its encoder is frozen, packed inputs otherwise."""
    found: dict[str, Any] = {}
    for modality, plan in plans.items():
        encoder = model.encoders[modality]
        if getattr(encoder, "frozen", False):
            found[modality] = feature_source(encoder, plan, store, splits, device)
        else:
            found[modality] = store.source(plan)
    return found
