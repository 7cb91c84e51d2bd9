"""Run all checks of an audit, in a fixed order, each alone: what one cannot look at is no reason to skip the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from encoders.preprocessor import Preparation
from experiments.audit import files, fitting, future, outcomes, people, pictures, shuffled, telling
from experiments.audit.evidence import Evidence
from experiments.audit.finding import Audit, Line, Outcome, Skipped
from experiments.config import Config, ExperimentConfig
from experiments.controls import plan as control_plan
from experiments.data.folder import Dataset
from experiments.data.store import Store
from experiments.data_config import DataConfig
from experiments.feeding import preparations
from experiments.progress import progress_bar
from experiments.workspace import git_commit, open_data, open_store
from fusion import Spec

FILE_CHECKS: Mapping[str, Callable[[Dataset, DataConfig], Outcome]] = {
    "splits overlap": files.split_file,
    "duplicate labels": files.label_files,
}
"""Checks without which no cohort can be read."""

CHECKS: Mapping[str, Callable[[Evidence], Outcome]] = {
    "patients overlap": people.apart,
    "duplicate records": people.records,
    "duplicate notes": people.texts,
    "duplicate images": people.files,
    "future": future.unseen_future,
    "availability time": future.available,
    "label-defining codes": outcomes.defining_codes,
    "discharge notes": outcomes.late_notes,
    "single features": telling.features,
    "missing modalities": telling.availability,
    "fitted outside training": fitting.fitted_on_training,
    "pre-training": fitting.pretrained_elsewhere,
    "image giveaways": pictures.giveaways,
    "shuffled labels": shuffled.shuffled,
}
"""All other checks, by the name under which an audit shows them."""

_UNREAD = "no cohort can be read before that is right"


def audit_config(config: Config, *, progress: bool = False) -> Audit:
    """Audit what a study or an experiment learns from: all preparations and encoders that it may use.

    Raises:
        UsageError: the data are not what the configuration says, in a way that no check is about.
    """
    started = time.monotonic()
    dataset = open_data(config, progress=progress)
    lines = [_line(name, partial(check, dataset, config.data)) for name, check in FILE_CHECKS.items()]
    if any(line.status == "error" for line in lines):
        lines += [Line(name, "skipped", _UNREAD) for name in CHECKS]
        return Audit(config.name, tuple(lines), _about(started))
    plans, encoders = used(config)
    return audit_store(config, open_store(config, progress=progress), plans, encoders, lines, progress=progress)


def audit_store(
    config: Config,
    store: Store,
    plans: Sequence[Preparation],
    encoders: Sequence[tuple[str, Spec]],
    lines: Sequence[Line] = (),
    *,
    progress: bool = False,
) -> Audit:
    """Audit a cohort and some of its preparations, which are made first where they are not there yet."""
    started = time.monotonic()
    store.prepare(plans, progress)
    evidence = Evidence(store, plans, encoders, config.seed)
    found = list(lines)
    with progress_bar("leakage audit", len(CHECKS), enabled=progress) as advance:
        for name, check in CHECKS.items():
            found.append(_line(name, partial(check, evidence)))
            advance()
    return Audit(config.name, tuple(found), _about(started, store))


def used(config: Config) -> tuple[list[Preparation], list[tuple[str, Spec]]]:
    """Return every preparation and every encoder, with its modality, that a study or an experiment may use.

    The preparation of the controls of a comparison is among them.
    """
    if isinstance(config, ExperimentConfig):
        architecture = config.model.architecture()
        plans = list(preparations(architecture, config.data.preprocess).values())
        encoders = list(architecture.encoders.items())
    else:
        from experiments.studies import preparations_of, study_space

        space = study_space(config)
        plans = preparations_of(space, config)
        encoders = [(modality, spec) for modality in space.encoders for spec in space.specs(modality)]
    if config.compare.controls and any(modality == "codes" for modality, _ in encoders):
        plans = [*plans, control_plan()]
    return list({plan.key: plan for plan in plans}.values()), encoders


def _line(name: str, check: Callable[[], Outcome]) -> Line:
    try:
        measured, findings = check()
    except Skipped as reason:
        return Line(name, "skipped", str(reason))
    found = tuple(findings)
    if any(each.severity == "error" for each in found):
        return Line(name, "error", measured, found)
    return Line(name, "warning" if found else "passed", measured, found)


def _about(started: float, store: Store | None = None) -> dict[str, Any]:
    about: dict[str, Any] = {"git_commit": git_commit(), "seconds": round(time.monotonic() - started, 1)}
    if store is not None:
        about |= {"data_fingerprint": store.data_fingerprint, "split_fingerprint": store.cohort.split_fingerprint}
    return about
