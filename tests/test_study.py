"""Studies: what may be resumed, exact tickets, and scores that are not finite."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toy_trials import (
    ATTRIBUTES,
    SPACE,
    Answer,
    begin,
    constant,
    run,
    run_one,
    spec,  # noqa: F401 - fixtures
)

from fusion.component import Choice, Float, Int, UsageError
from search.identity import worker_id
from search.space import Candidate, Space
from search.storage import BudgetSpent, StudyStorage
from search.study import (
    StudySpec,
    create_or_resume,
    issue_tickets,
    open_study,
    summary,
    worker_loop,
)
from search.trial import Interrupted, TrialHandle

# create or resume


def test_the_same_study_is_resumed(spec: StudySpec) -> None:
    begin(spec)
    run(spec, constant)
    again = create_or_resume(spec, {**ATTRIBUTES, "git_commit": "abc", "study_key": "new"})
    assert len(again.get_trials()) == 4
    assert again.user_attrs == {**ATTRIBUTES, "git_commit": "abc", "study_key": "new"}
    assert create_or_resume(spec, {**ATTRIBUTES, "study_key": "newer"}).user_attrs["study_key"] == "new"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"data_fingerprint": "d2"}, "other data"),
        ({"split_fingerprint": "s2"}, "other splits"),
        ({"metric": "auprc"}, "another metric"),
    ],
)
def test_a_study_of_something_else_is_refused(spec: StudySpec, changed: dict[str, str], what: str) -> None:
    begin(spec)
    with pytest.raises(UsageError) as caught:
        create_or_resume(spec, {**ATTRIBUTES, **changed})
    assert str(caught.value) == f"study 'toy' exists with {what}; choose another name or say --fresh"
    assert open_study(spec).user_attrs == ATTRIBUTES


@pytest.mark.parametrize(
    ("space", "first"),
    [
        (replace(SPACE, dim=64), "dim"),
        (replace(SPACE, dim=Choice(16, 64)), "dim.choice"),
        (replace(SPACE, fusion={"late": {}}), "fusion.early"),
        (
            replace(SPACE, encoders={"codes": {"bag": {}, "gru": {"layers": Int(1, 2)}}}),
            "encoders.codes.gru.layers.high",
        ),
        (replace(SPACE, training={**SPACE.training, "clip": 1.0}), "training.clip"),
        (replace(SPACE, dim=64, fusion={"late": {}}), "dim"),
    ],
)
def test_another_space_is_refused_and_the_first_difference_named(spec: StudySpec, space: Space, first: str) -> None:
    begin(spec)
    with pytest.raises(UsageError) as caught:
        create_or_resume(
            spec, {**ATTRIBUTES, "space": json.dumps(space.to_dict()), "space_fingerprint": space.fingerprint}
        )
    assert str(caught.value) == (
        f"study 'toy' exists with another space (first difference: {first}); choose another name or say --fresh"
    )


def test_fresh_starts_over(spec: StudySpec) -> None:
    begin(spec)
    run(spec, constant)
    study = create_or_resume(spec, {**ATTRIBUTES, "metric": "auprc"}, fresh=True)
    assert (study.get_trials(), study.user_attrs["metric"]) == ([], "auprc")
    create_or_resume(replace(spec, name="other"), ATTRIBUTES, fresh=True)
    assert sorted(optuna.get_all_study_names(spec.storage)) == ["other", "toy"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")
def test_fresh_does_not_forget_what_runs(spec: StudySpec) -> None:
    """Its worker would meet another study in its place; one that is dead does not hold it up."""
    study = begin(spec)
    trial = study.ask()
    trial.set_user_attr("worker", worker_id(os.getpid(), "a"))
    text = r"study 'toy' is at work: 1 trial runs now; end its workers before --fresh \("
    with pytest.raises(UsageError, match=text):
        create_or_resume(spec, ATTRIBUTES, fresh=True)
    assert len(study.get_trials()) == 4
    trial.set_user_attr("worker", worker_id(os.getpid(), "a").replace(f":{os.getpid()}-", ":4194999-"))
    assert create_or_resume(spec, ATTRIBUTES, fresh=True).get_trials() == []


def test_a_study_that_was_never_started(spec: StudySpec) -> None:
    with pytest.raises(UsageError) as caught:
        open_study(spec)
    assert str(caught.value) == "there is no study 'toy' in its storage; start it with: ehrfusion search"


# the budget


def test_tickets_are_issued_once_and_a_grown_budget_adds_the_difference(spec: StudySpec) -> None:
    study = create_or_resume(spec, ATTRIBUTES)
    assert [issue_tickets(study, trials) for trials in (4, 4, 6, 6)] == [4, 0, 2, 0]
    run(spec, constant)
    assert len(study.get_trials()) == 6
    assert issue_tickets(study, 7) == 1


def test_trials_handed_back_do_not_count_against_the_budget(spec: StudySpec) -> None:
    study = begin(spec)
    run(spec, interrupt_first(), stop=None)
    assert len(study.get_trials()) == 5
    assert issue_tickets(study, 4) == 0
    assert summary(study.get_trials())["complete"] == 4


def interrupt_first() -> Answer:
    seen: list[int] = []

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        seen.append(trial.number)
        if len(seen) == 1:
            raise Interrupted("asked to stop")
        return 0.5

    return objective


def test_no_trial_starts_without_a_ticket(spec: StudySpec) -> None:
    study = create_or_resume(spec, ATTRIBUTES)
    with pytest.raises(BudgetSpent, match="no ticket left"):
        study.optimize(lambda _: 0.5, n_trials=1)
    assert study.get_trials() == []
    free = open_study(replace(spec, trials=None))  # a budget in seconds has no tickets
    free.optimize(lambda _: 0.5, n_trials=1)
    assert len(study.get_trials()) == 1


def test_the_cache_of_optuna_asks_the_storage_for_every_new_trial(spec: StudySpec) -> None:
    """`tickets_only` hangs on the cache calling `_create_new_trial`; a release that changes that must be noticed."""
    study = create_or_resume(spec, ATTRIBUTES)
    assert isinstance(study._storage, optuna.storages._CachedStorage)
    assert isinstance(study._storage._backend, StudyStorage)
    with pytest.raises(BudgetSpent):
        study._storage.create_new_trial(study._study_id)


def claim(folder: str, url: str, ready: Any) -> None:
    """Claim tickets until there are none, in a process of its own."""
    spec = StudySpec("race", url, "maximize", seed=os.getpid(), sampler="random", pruner="none", trials=1)
    study = open_study(spec)
    ready.wait(60)

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        with (Path(folder) / "claimed").open("a", encoding="utf-8") as file:
            file.write(f"{trial.number} {os.getpid()}\n")
        return 0.5

    space = Space({"codes": {"bag": {}}}, {"late": {}}, 8, {"lr": Float(0.0, 1.0)})
    worker_loop(study, spec, space, objective, "w", lambda: "")


def test_processes_that_race_for_tickets_double_none(tmp_path: Path, spec: StudySpec) -> None:
    tickets, count = 40, 4
    spec = replace(spec, name="race", trials=tickets)
    study = begin(spec)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.study"])
    ready = context.Barrier(count)
    workers = [context.Process(target=claim, args=(str(tmp_path), spec.storage, ready)) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * count
    claimed = [line.split() for line in (tmp_path / "claimed").read_text(encoding="utf-8").splitlines()]
    assert sorted(int(number) for number, _ in claimed) == list(range(tickets))
    assert len({pid for _, pid in claimed}) > 1  # there was a race
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * tickets


# how a trial ends


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_failure(spec: StudySpec, score: float) -> None:
    trial = run_one(spec, lambda *_: score)
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs["failure"] == f"the score is {score}"
