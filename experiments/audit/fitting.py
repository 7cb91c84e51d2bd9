"""Checks of what was learned before training: preprocessors fitted on, encoders pre-trained on, test patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from math import isclose, isnan
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit.evidence import Evidence
from experiments.audit.finding import Finding, Outcome, Skipped, rows_text
from experiments.audit.pretraining import pretraining_file, read_pretraining

_CLOSE = 1e-5  # relative difference of two learned numbers that another machine's arithmetic explains
_KNOWN = {
    "emilyalsentzer/Bio_ClinicalBERT": "mimic",
    "emilyalsentzer/Bio_Discharge_Summary_BERT": "mimic",
    "yikuan8/Clinical-Longformer": "mimic",
    "yikuan8/Clinical-BigBird": "mimic",
    "bionlp/bluebert_pubmed_mimic_uncased_L-12_H-768_A-12": "mimic",
}
"""Public models whose authors say that they read all notes of a source, test patients among them."""


def fitted_on_training(evidence: Evidence) -> Outcome:
    """Each preprocessor in use is what training patients alone give: it is fitted anew, and the two compared."""
    findings, prints = [], []
    rows = evidence.cohort.rows("train")
    train = hashlib.sha256(evidence.cohort.subject_ids[rows].tobytes()).hexdigest()
    for plan in {plan.key: plan for plan in evidence.plans}.values():
        used = evidence.store.preprocessor(plan).to_dict()
        anew = json.loads(json.dumps(evidence.store.fit(plan).to_dict()))
        about = json.loads((evidence.store.folder(plan) / "columns.json").read_text(encoding="utf-8"))
        prints.append(_fingerprint(anew))
        if not same(used, anew) or about.get("train_rows") != train:
            what = f"{plan.preprocessor.__name__} of {plan.modality} ({_fingerprint(used)}) is not what the "
            what += f"{len(rows):,} training rows give ({prints[-1]})"
            advice = "delete the prepared tensors in the runs folder's cache: it was fitted on other patients"
            findings.append(Finding("error", evidence.store.folder(plan).name, what, advice))
    return Outcome(f"{len(prints)} preprocessors fitted anew: {', '.join(prints)}", findings)


def same(first: Any, second: Any) -> bool:
    """Tell whether two JSON data are equal, numbers up to the rounding of another machine."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return isclose(first, second, rel_tol=_CLOSE, abs_tol=_CLOSE**2) or (isnan(first) and isnan(second))
    return bool(first == second)


def _fingerprint(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def pretrained_elsewhere(evidence: Evidence) -> Outcome:
    """No encoder was pre-trained on patients of the tuning or held-out split.

    Weights in files say so by the list beside them (see `pretraining`); a few public models are known by name.
    """
    findings: list[Finding] = []
    looked: set[tuple[str, str]] = set()  # the same weights may be used in several ways
    for modality, spec in evidence.encoders:
        for value in spec.params.values():
            if not isinstance(value, str) or not value:  # an empty path would be the folder one stands in
                continue
            if Path(value).exists():
                looked.add((modality, value))
                findings += _of_file(evidence, modality, Path(value))
            elif value in _KNOWN:
                looked.add((modality, value))
                findings += _of_public(evidence, modality, value)
    if not looked:
        raise Skipped("no encoder with weights from a file or from a source known by name")
    return Outcome(f"{len(looked)} pre-trained encoders", list(dict.fromkeys(findings)))


def _of_file(evidence: Evidence, modality: str, weights: Path) -> Iterator[Finding]:
    where = pretraining_file(weights)
    if not where.is_file():
        what = f"weights of {modality} do not say which patients they were pre-trained on"
        yield Finding("warning", str(weights), what, f"write {where.name} beside them (write_pretraining)")
        return
    known = read_pretraining(where)
    cohort = evidence.cohort
    late = np.flatnonzero(cohort.split != "train")
    shared = np.isin(cohort.subject_ids[late], known.among(np.unique(cohort.subject_ids[late])))
    if not shared.any():
        return
    rows = late[shared]
    source = _source(evidence)
    count = len(np.unique(cohort.subject_ids[rows]))
    if known.source == source:
        what = f"{modality} was pre-trained on {count:,} patients of the tuning and held-out splits"
        yield Finding(
            "error", rows_text(rows), what, "pre-train on training patients, or give those to the train split"
        )
    else:
        what = f"{count:,} patient numbers of the tuning and held-out splits are in the pre-training of {modality}, "
        what += f"whose source is '{known.source}', not '{source}'"
        yield Finding("warning", rows_text(rows), what, "see whether the two sources number the same people")


def _of_public(evidence: Evidence, modality: str, name: str) -> Iterator[Finding]:
    if _KNOWN[name] in _source(evidence).lower():
        what = f"{modality} reads with {name}, which was pre-trained on notes of this source, test patients among them"
        yield Finding("warning", modality, what, "compare with a model that has not read them")


def _source(evidence: Evidence) -> str:
    metadata: Mapping[str, Any] = evidence.dataset.metadata
    return str(metadata.get("dataset_name", evidence.dataset.folder.name))
