"""A study in a database of its own, and trials that cost nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial

from fusion.component import Choice, Float, Int
from search.space import Candidate, Space
from search.storage import sqlite_url
from search.study import (
    StudySpec,
    create_or_resume,
    issue_tickets,
    open_study,
    worker_loop,
)
from search.trial import TrialHandle

SPACE = Space(
    {"codes": {"bag": {}, "gru": {"layers": Int(1, 3)}}},
    {"late": {}, "early": {}},
    Choice(16, 32),
    {"lr": Float(1e-4, 1e-2, True)},
)
ATTRIBUTES = {
    "space": json.dumps(SPACE.to_dict(), sort_keys=True),
    "space_fingerprint": SPACE.fingerprint,
    "data_fingerprint": "d1",
    "split_fingerprint": "s1",
    "metric": "auroc",
}
Answer = Callable[[Candidate, TrialHandle], float]


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    url = sqlite_url(tmp_path / "study.db")
    return StudySpec("toy", url, "maximize", seed=7, sampler="random", pruner="none", trials=4)


def begin(spec: StudySpec) -> optuna.Study:
    study = create_or_resume(spec, ATTRIBUTES)
    if spec.trials is not None:
        issue_tickets(study, spec.trials)
    return study


def run(spec: StudySpec, objective: Answer, *, slot: int = 0, space: Space = SPACE, stop: Any = None) -> None:
    worker_loop(open_study(spec, slot=slot), spec, space, objective, f"worker-{slot}", stop or (lambda: ""))


def run_one(spec: StudySpec, objective: Answer, **options: Any) -> FrozenTrial:
    """Run a study of one trial and return it."""
    spec = replace(spec, trials=1)
    study = begin(spec)
    run(spec, objective, **options)
    return study.get_trials()[0]


def constant(candidate: Candidate, trial: TrialHandle) -> float:
    return 0.5


def take(study: optuna.Study, **attributes: Any) -> FrozenTrial:
    """Do what a worker does first, and die."""
    number = study._pop_waiting_trial_id()
    assert number is not None
    for name, value in attributes.items():
        study._storage.set_trial_user_attr(number, name, value)
    return study._storage.get_trial(number)
