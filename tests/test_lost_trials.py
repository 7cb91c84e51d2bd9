"""Trials whose workers die: handed back once, counted right."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_trials import (
    begin,
    constant,
    run,
    spec,  # noqa: F401 - fixtures
    take,
)

from search.attempts import fail_lost, hand_back, hand_back_crashed, rescue
from search.identity import worker_id
from search.study import StudySpec, open_study, summary


def last(study: optuna.Study) -> FrozenTrial:
    return study.get_trials()[-1]


def test_a_trial_whose_worker_dies_twice_is_not_run_a_third_time(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    take(study, worker="w1")
    assert fail_lost(study, lambda trial: trial.user_attrs["worker"] == "w1") == 1
    take(study, worker="w2")
    assert fail_lost(study, lambda trial: trial.user_attrs["worker"] == "w1") == 0
    assert fail_lost(study, lambda trial: trial.user_attrs["worker"] == "w2") == 1
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL] * 2
    assert [trial.user_attrs["failure"] for trial in trials] == ["its worker died", "its worker died twice"]
    assert (trials[1].user_attrs["root"], trials[1].user_attrs["crashes"]) == (0, 1)
    assert summary(trials)["failed"] == 1


def test_a_worker_that_was_killed_on_purpose_is_no_blame(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    for _ in range(3):
        take(study, worker="w")
        assert fail_lost(study, lambda _: True, stopped=True) == 1
    assert last(study).state == TrialState.WAITING
    assert (last(study).user_attrs["crashes"], last(study).user_attrs["attempt"]) == (0, 3)


def test_a_trial_is_handed_back_once_whoever_does_it(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    trial = take(study, worker="w")
    hand_back(study, trial)  # the worker handed it back and was killed before it could close it
    assert fail_lost(study, lambda _: True) == 1
    hand_back_crashed(study, trial)
    rescue(study)
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert last(study).user_attrs["crashes"] == 0


def test_two_supervisors_may_find_the_same_dead_worker(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    take(study, worker="w")

    def found_by_both(trial: FrozenTrial) -> bool:
        assert fail_lost(open_study(spec), lambda _: True) == 1
        return True

    assert fail_lost(study, found_by_both) == 0
    assert [trial.state for trial in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize("failure", ["its worker died", "its worker gave no sign of life"])
def test_what_was_failed_but_not_handed_back_is_rescued(spec: StudySpec, failure: str) -> None:
    study = begin(replace(spec, trials=1))
    trial = take(study, worker="w", failure=failure)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    rescue(study)
    rescue(study)
    assert [each.state for each in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert last(study).user_attrs == {"root": 0, "attempt": 1, "crashes": 1}


def test_a_trial_without_heartbeats_is_failed_with_a_reason_and_run_again(spec: StudySpec) -> None:
    """No supervisor sees a worker of another host die; the next worker of any host finds its heartbeat old."""
    spec = replace(spec, trials=1)
    study = begin(spec)
    trial = take(study, worker="elsewhere")
    study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    run(spec, constant)
    assert last(study).state == TrialState.RUNNING  # its heart beat a moment ago
    with sqlite3.connect(spec.storage.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = ?", (str(datetime.now() - timedelta(days=2)),))
    database.close()
    run(spec, constant)
    first, second = study.get_trials()
    assert (first.state, first.user_attrs["failure"]) == (TrialState.FAIL, "its worker gave no sign of life")
    assert (second.state, second.user_attrs["root"], second.user_attrs["crashes"]) == (TrialState.COMPLETE, 0, 1)


def test_a_worker_that_slept_with_its_machine_is_not_taken_for_dead(spec: StudySpec) -> None:
    """A laptop that is closed for a night: all heartbeats are old, and the workers go on where they were."""
    study = begin(replace(spec, trials=2))
    mine, other = take(study, worker=worker_id(os.getpid(), "x")), take(study, worker="elsewhere:boot:1-1:x")
    for trial in (mine, other):
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    with sqlite3.connect(spec.storage.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = ?", (str(datetime.now() - timedelta(days=2)),))
    database.close()
    run(replace(spec, trials=2), constant)
    assert [trial.state.name for trial in study.get_trials()] == ["RUNNING", "FAIL", "COMPLETE"]
    assert last(study).user_attrs["root"] == 1


def test_summary_counts_roots_by_how_they_stand() -> None:
    def trial(number: int, state: TrialState, **attributes: int) -> FrozenTrial:
        value = 1.0 if state == TrialState.COMPLETE else None
        made = optuna.trial.create_trial(state=state, value=value, user_attrs=attributes)
        made.number = number
        return made

    trials = [
        trial(0, TrialState.FAIL),  # interrupted, then complete
        trial(1, TrialState.FAIL),  # failed
        trial(2, TrialState.PRUNED),
        trial(3, TrialState.RUNNING),
        trial(4, TrialState.WAITING),
        trial(5, TrialState.FAIL),  # interrupted, waits
        trial(6, TrialState.COMPLETE, root=0),
        trial(7, TrialState.WAITING, root=5),
    ]
    assert summary(trials) == {"complete": 1, "pruned": 1, "failed": 1, "running": 1, "waiting": 2}
    assert sum(summary(trials).values()) == 6
    assert summary([]) == {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
