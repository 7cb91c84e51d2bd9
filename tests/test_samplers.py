"""Samplers: different workers propose different things, one worker the same again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from toy_trials import (
    SPACE,
    begin,
    run,
    spec,  # noqa: F401 - fixtures
)

from search.space import Candidate
from search.storage import sqlite_url
from search.study import (
    StudySpec,
    open_study,
    summary,
)
from search.trial import TrialHandle

# what is proposed


def proposals(spec: StudySpec, slot: int, count: int = 2) -> list[str]:
    """Return what a worker that starts now proposes first, and take nothing for it."""
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, sampler=open_study(spec, slot=slot).sampler)
    return [json.dumps(SPACE.suggest(study.ask()).to_dict()) for _ in range(count)]  # type: ignore[union-attr]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_workers_and_resumed_workers_propose_different_things(spec: StudySpec, sampler: str) -> None:
    spec = replace(spec, sampler=sampler)
    begin(spec)
    at_first = [proposals(spec, slot) for slot in range(3)]
    assert at_first == [proposals(spec, slot) for slot in range(3)]  # the same seed, the same search
    assert proposals(replace(spec, seed=8), 0) != at_first[0]
    stopped = [""]

    def two_trials(candidate: Candidate, trial: TrialHandle) -> float:
        stopped[0] = "interrupt" if trial.number == 1 else ""
        return 0.5

    run(spec, two_trials, stop=lambda: stopped[0])
    assert summary(open_study(spec).get_trials())["waiting"] == 2  # stopped between trials: none was handed back
    resumed = [proposals(spec, slot) for slot in range(3)]
    assert len({each for found in (*at_first, *resumed) for each in found}) == 12


def test_samplers(spec: StudySpec) -> None:
    begin(spec)
    assert isinstance(open_study(spec).sampler, optuna.samplers.RandomSampler)
    assert isinstance(open_study(replace(spec, sampler="tpe")).sampler, optuna.samplers.TPESampler)
    grouped = open_study(replace(spec, sampler="tpe", group=True, startup_trials=3)).sampler
    assert isinstance(grouped, optuna.samplers.TPESampler)
    assert (grouped._group, grouped._n_startup_trials) == (True, 3)


def test_a_search_by_one_worker_is_the_same_again(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        spec = StudySpec("toy", sqlite_url(tmp_path / f"{name}.db"), "maximize", 3, startup_trials=4, trials=8)
        study = begin(spec)
        run(spec, lambda candidate, _: candidate.architecture.dim + math.log(candidate.training["lr"]))
        found.append([(trial.params, trial.value) for trial in study.get_trials()])
    assert found[0] == found[1]
    assert len(found[0]) == 8
