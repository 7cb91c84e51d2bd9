"""Writing pre-trained encoders: a folder a modality, of safetensors and JSON, whole or not at all, for the owner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from encoders.artefact import ABOUT, FORMAT, WEIGHTS, fingerprint, weights_digest
from encoders.preprocessor import Preparation
from experiments.audit.pretraining import write_pretraining
from experiments.data.splits import split_fingerprint
from experiments.data.store import Store
from experiments.versions import package_versions
from experiments.whole import whole_folder
from experiments.workspace import git_commit
from fusion import Architecture, FusionModel


def write_artefacts(
    folder: Path,
    model: FusionModel,
    architecture: Architecture,
    plans: Mapping[str, Preparation],
    store: Store,
    learned: Mapping[str, Any],
) -> dict[str, str]:
    """Write every encoder of a model and return their fingerprints by modality.

    Args:
        learned: what was learned and how: key, objectives, settings, seed, epochs, loss.
    """
    subjects = store.cohort.subject_ids[store.cohort.rows("train")]
    source = dataset_name(store)
    shared = {
        **learned,
        "dataset": source,
        "patients": patients(subjects),
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": store.cohort.split_fingerprint,
        "git_commit": git_commit(),
        "versions": package_versions(),
    }
    with whole_folder(folder, private=True) as temporary:
        for modality, encoder in model.encoders.items():
            mine = temporary / modality
            mine.mkdir()
            tensors = {name: each.detach().cpu().clone() for name, each in encoder.state_dict().items()}
            about = _about(modality, architecture, plans[modality], store) | shared
            save_file(tensors, mine / WEIGHTS)
            text = json.dumps(about | {"sha256": weights_digest(tensors)}, indent=1) + "\n"
            (mine / ABOUT).write_text(text, encoding="utf-8")
            write_pretraining(mine, subjects, source)
    return {modality: fingerprint(str(folder / modality)) for modality in model.encoders}


def patients(subjects: NDArray[np.int64]) -> dict[str, Any]:
    """Return how many patients there are, and a hash of who they are as splits have it."""
    distinct = np.unique(subjects)
    return {"count": len(distinct), "fingerprint": split_fingerprint(distinct, np.full(len(distinct), "train"))}


def dataset_name(store: Store) -> str:
    """Return what a data folder calls itself, by which an audit tells sources apart."""
    return str(store.dataset.metadata.get("dataset_name", store.dataset.folder.name))


def _about(modality: str, architecture: Architecture, plan: Preparation, store: Store) -> dict[str, Any]:
    fitted = store.preprocessor(plan)
    return {
        "format": FORMAT,
        "modality": modality,
        "encoder": architecture.encoders[modality].to_dict(),
        "dim": architecture.dim,
        "preprocessor": {
            "name": plan.preprocessor.__name__,
            "options": dict(plan.options),
            "data": fitted.to_dict(),
        },
    }
