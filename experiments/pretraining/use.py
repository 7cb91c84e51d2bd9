"""Using artefacts: whether a pre-trained vocabulary knows these patients, and which artefacts an architecture uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from encoders.artefact import ArtefactInputs, fingerprint
from encoders.codes.vocabulary import UNKNOWN, CodeVocabulary
from encoders.notes.words import Words
from encoders.preprocessor import Preparation
from experiments.data.store import Store
from fusion.component import Architecture, Spec, UsageError

_MOST = 0.5  # share of a patient's events or words that a vocabulary may lack


def check_vocabularies(plans: Mapping[str, Preparation], store: Store) -> None:
    """Check that pre-trained vocabularies know at least half of what the training patients have.

    Raises:
        UsageError: the first that does not.
    """
    for modality, plan in plans.items():
        source = store.source(plan)
        if not isinstance(source.preprocessor, ArtefactInputs):
            continue
        rows = source.row_index[torch.as_tensor(store.cohort.rows("train"))]
        columns, mask = source.packed.pad(rows[rows >= 0])
        lacking = _lacking(source.preprocessor.inner, columns, mask)
        if lacking > _MOST:
            about = source.preprocessor.about
            raise UsageError(
                f"encoders.{modality}: the vocabulary of {plan.options['path']} lacks {lacking:.0%} of what the "
                f"training patients have; it was pre-trained on '{about.get('dataset')}': pre-train on these data"
            )


def _lacking(preprocessor: Any, columns: Mapping[str, Tensor], mask: Tensor) -> float:
    """Return the share of items that a vocabulary does not know, 0 where it is not one of codes or words."""
    if isinstance(preprocessor, CodeVocabulary):
        unknown = columns["codes"] == UNKNOWN
    elif isinstance(preprocessor, Words):
        unknown = columns["ids"] >= preprocessor.known
    else:
        return 0.0
    return float((unknown & mask).sum() / mask.sum().clamp(min=1))


def uses_artefact(architecture: Architecture) -> bool:
    """Tell whether an encoder starts from pre-training on patients of the train split."""
    return any(spec.name == "artefact" for spec in architecture.encoders.values())


def contents(encoders: Iterable[Spec]) -> dict[str, str]:
    """Return the fingerprint of each artefact that encoders start from, by its path: another may lie there by now.

    Raises:
        UsageError: there is none at a path.
    """
    paths = {str(spec.params.get("path", "")) for spec in encoders if spec.name == "artefact"}
    return {path: fingerprint(path) for path in sorted(paths)}


def artefacts(preprocessors: Mapping[str, Any]) -> dict[str, str]:
    """Say of each modality with a pre-trained encoder what it learned, on how many patients, and its fingerprint."""
    found = {}
    for modality, each in preprocessors.items():
        if isinstance(each, ArtefactInputs):
            learned = " + ".join(each.about.get("objectives", ["unknown"]))
            count = each.about.get("patients", {}).get("count", 0)
            found[modality] = f"{learned} on {count:,} patients, artefact {each.fingerprint}"
    return found
