"""Trials: failures, pruning, interruptions, and what they know of themselves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toy_trials import (
    begin,
    run,
    run_one,
    spec,  # noqa: F401 - fixtures
)

from fusion.component import Float, UsageError
from search.failures import failure_text
from search.space import Candidate, Space
from search.study import (
    StudySpec,
    open_study,
    summary,
)
from search.trial import Interrupted, Pruned, TrialFailed, TrialHandle


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_report_that_is_not_finite_is_a_failure(spec: StudySpec, score: float) -> None:
    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        trial.report(1, 0.5, {"loss": 1.0})
        trial.report(2, score, {"loss": 1.0})
        return 0.5

    trial = run_one(spec, objective)
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["failure"] == f"the score is {score} in epoch 2"
    assert trial.intermediate_values == {1: 0.5}
    assert trial.user_attrs["history"] == [{"epoch": 1, "score": 0.5, "loss": 1.0}]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad shape\nsecond line\nthird"), "ValueError: bad shape"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 300), "RuntimeError: " + "x" * 200),
        (RuntimeError("\n  \n"), "RuntimeError"),
        (MemoryError(), "out of memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate"), "out of memory"),
        (TrialFailed("longer than the 3 s a trial may take"), "longer than the 3 s a trial may take"),
        (UsageError("heads (3) must divide dim (16)"), "UsageError: heads (3) must divide dim (16)"),
    ],
)
def test_a_failure_says_why_in_one_line_and_takes_no_other_trial_with_it(
    spec: StudySpec, error: Exception, text: str
) -> None:
    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        if trial.number == 1:
            raise error
        return 0.5

    study = begin(spec)
    run(spec, objective)
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.get_trials()[1].user_attrs["failure"] == text
    if not isinstance(error, TrialFailed):
        assert failure_text(error) == text


def test_a_pruned_trial_says_by_what(spec: StudySpec) -> None:
    nothing = Space({"codes": {"none": {}, "bag": {}}}, {"late": {}}, 16, {"lr": Float(0.1, 0.2)})  # no duplicates
    spec = replace(spec, trials=12)
    study = begin(spec)

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        trial.note(pruned_by="hand")
        raise Pruned("not worth it")

    run(spec, objective, space=nothing)
    assert {trial.state for trial in study.get_trials()} == {TrialState.PRUNED}
    for trial in study.get_trials():
        reason = "no modality" if trial.params["encoders.codes"] == "none" else "hand"
        assert trial.user_attrs["pruned_by"] == reason
        assert ("architecture" in trial.user_attrs) == (reason == "hand")
    assert {trial.user_attrs["pruned_by"] for trial in study.get_trials()} == {"no modality", "hand"}


def test_the_end_of_the_budget_prunes_what_runs(spec: StudySpec) -> None:
    spec = replace(spec, trials=None)
    begin(spec)
    reason = [""]

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        assert not trial.should_stop()
        reason[0] = "budget"
        assert trial.should_stop()
        raise Interrupted("asked to stop")

    run(spec, objective, stop=lambda: reason[0])
    [trial] = open_study(spec).get_trials()
    assert (trial.state, trial.user_attrs["pruned_by"]) == (TrialState.PRUNED, "budget")


def test_halving_prunes_the_worse_at_its_first_rung_and_not_before(spec: StudySpec) -> None:
    spec = replace(spec, pruner="halving", first_rung=3, reduction=2, trials=4)
    study = begin(spec)

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        for epoch in range(1, 7):
            trial.report(epoch, 1.0 - trial.number / 10, {})
        return 1.0 - trial.number / 10

    run(spec, objective)
    trials = study.get_trials()
    assert trials[0].state == TrialState.COMPLETE
    assert [trial.state for trial in trials[1:]] == [TrialState.PRUNED] * 3
    for trial in trials[1:]:
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert trial.user_attrs["pruned_by"] == "halving"
        assert len(trial.user_attrs["history"]) == 3


@pytest.mark.parametrize(("total_epochs", "grows"), [(None, False), (1000.0, True)])
def test_a_report_reads_all_trials_only_where_their_epochs_are_the_budget(
    spec: StudySpec, total_epochs: float | None, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each report of hundreds of workers would read grows with the study."""
    begin(spec)
    reads: list[int] = []
    read = optuna.Study.get_trials

    def counted(study: optuna.Study, *given: Any, **named: Any) -> Any:
        reads.append(1)
        return read(study, *given, **named)

    monkeypatch.setattr(optuna.Study, "get_trials", counted)

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        before = len(reads)
        for epoch in range(1, 5):
            trial.report(epoch, 0.5, {})
        assert len(reads) - before == (4 if grows else 0)
        return 0.5

    run(replace(spec, total_epochs=total_epochs), objective)
    assert reads


def test_a_trial_knows_what_it_is(spec: StudySpec) -> None:
    study = begin(spec)
    seen: dict[int, tuple[int, int, int]] = {}

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        seen[trial.number] = (trial.root, trial.attempt, trial.seed)
        return 0.5

    run(spec, objective)
    for trial in study.get_trials():
        root, attempt, seed = seen[trial.number]
        assert (root, attempt) == (trial.number, 0)
        assert {name: trial.user_attrs[name] for name in ("root", "attempt", "seed", "worker")} == {
            "root": root,
            "attempt": attempt,
            "seed": seed,
            "worker": "worker-0",
        }
        candidate = Candidate.from_dict(trial.user_attrs)
        assert candidate.training == {"lr": trial.params["training.lr"]}
        assert candidate.architecture.encoders["codes"].name == trial.params["encoders.codes"]
    assert len({seed for _, _, seed in seen.values()}) == 4


# handing back


def test_an_interrupted_trial_keeps_its_parameters_root_and_seed(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    stopped = [""]

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        if trial.attempt < 2:
            trial.report(1, 0.4, {})
            stopped[0] = "interrupt"
            raise Interrupted("asked to stop")
        return 0.9

    for attempt in range(3):
        stopped[0] = ""
        run(replace(spec, trials=1), objective, slot=attempt, stop=lambda: stopped[0])
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert [trial.user_attrs.get("failure") for trial in trials] == ["interrupted", "interrupted", None]
    assert [trial.user_attrs["attempt"] for trial in trials] == [0, 1, 2]
    assert [trial.user_attrs["crashes"] for trial in trials[1:]] == [0, 0]
    assert [trial.user_attrs["worker"] for trial in trials] == ["worker-0", "worker-1", "worker-2"]
    for name in ("root", "seed", "architecture", "training"):
        assert len({json.dumps(trial.user_attrs[name]) for trial in trials}) == 1
    assert len({json.dumps(trial.params) for trial in trials}) == 1
    assert summary(trials) == {"complete": 1, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
