"""Studies: what may be resumed, exact tickets, endings with reasons, trials handed back, storage that many share."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import exc

from fusion.component import Choice, Float, Int, UsageError
from search.space import Candidate, Space
from search.storage import BudgetSpent, StudyStorage, open_storage, sqlite_url
from search.study import (
    StudySpec,
    create_or_resume,
    fail_lost,
    failure_text,
    hand_back,
    hand_back_crashed,
    issue_tickets,
    open_study,
    rescue,
    summary,
    worker_loop,
)
from search.trial import Interrupted, Pruned, TrialFailed, TrialHandle

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
    spec = StudySpec("race", url, "maximize", seed=1, sampler="random", pruner="none", trials=1)
    study = open_study(spec)
    ready.wait(60)

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        with (Path(folder) / "claimed").open("a", encoding="utf-8") as file:
            file.write(f"{trial.number} {os.getpid()}\n")
        return 0.5

    worker_loop(study, spec, Space({"codes": {"bag": {}}}, {"late": {}}, 8, {}), objective, "w", lambda: "")


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
    nothing = Space({"codes": {"none": {}, "bag": {}}}, {"late": {}}, 16, {})
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


def take(study: optuna.Study, **attributes: Any) -> FrozenTrial:
    """Do what a worker does first, and die."""
    number = study._pop_waiting_trial_id()
    assert number is not None
    for name, value in attributes.items():
        study._storage.set_trial_user_attr(number, name, value)
    return study._storage.get_trial(number)


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


# the storage


def test_sqlite_is_in_wal_mode_and_waits(spec: StudySpec) -> None:
    storage = open_storage(spec.storage)
    with storage.engine.connect() as connection:
        answers = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "busy_timeout")]
    assert answers == ["wal", 60_000]
    assert (storage.heartbeat_interval, storage.grace_period) == (60, 240)


def test_a_heartbeat_that_fails_is_tried_again(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, pauses = [], []

    def record(self: RDBStorage, trial_id: int) -> None:
        calls.append(trial_id)
        if len(calls) == 1:
            raise exc.OperationalError("select 1", {}, Exception("server closed the connection"))
        if len(calls) == 2:
            raise optuna.exceptions.StorageInternalError("the database restarts")

    monkeypatch.setattr(RDBStorage, "record_heartbeat", record)
    monkeypatch.setattr("search.storage.time.sleep", pauses.append)
    open_storage(spec.storage).record_heartbeat(3)
    assert calls == [3, 3, 3]
    assert pauses == [1.0, 2.0]


def test_the_pauses_between_heartbeats_grow_to_half_a_minute(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def record(self: RDBStorage, trial_id: int) -> None:
        if len(pauses) < 8:
            raise optuna.exceptions.StorageInternalError("down")

    monkeypatch.setattr(RDBStorage, "record_heartbeat", record)
    monkeypatch.setattr("search.storage.time.sleep", pauses.append)
    open_storage(spec.storage).record_heartbeat(3)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def refused(url: str) -> str:
    with pytest.raises(UsageError) as caught:
        open_storage(url)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_storage_that_does_not_answer(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "study.db"
    assert refused(f"sqlite:///{missing}") == f"study storage {missing}: the folder {missing.parent} does not exist"
    text = tmp_path / "notes.txt"
    text.write_text("this is no database, however long one looks at it " * 20, encoding="utf-8")
    assert refused(f"sqlite:///{text}").startswith(f"study storage sqlite:///{text} does not answer: ")
    assert "file is not a database" in refused(f"sqlite:///{text}")
    assert refused("what is this").startswith("study storage (not a database URL) does not answer: ")
    assert "does not answer" in refused("nosuchdatabase://host/studies")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nosuchdriver://ada:s3cret@db.example/studies",
        "postgresql+nosuchdriver://ada:s3%40cret@db.example/studies",
        "postgresql+nosuchdriver://db.example/studies?user=ada&password=s3cret",
        "postgresql+nosuchdriver://db.example/studies?password=x@s3cret",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    text = refused(url)
    assert text.startswith("study storage postgresql+nosuchdriver://db.example/studies does not answer: ")
    assert "cret" not in text
    assert "ada" not in text


def test_a_schema_of_another_optuna(spec: StudySpec) -> None:
    path = spec.storage.removeprefix("sqlite:///")
    open_storage(spec.storage)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
        database.execute("UPDATE version_info SET library_version = '0.9.0'")
    database.close()
    assert refused(spec.storage).startswith(f"study storage {spec.storage} does not answer: ")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "cifs"])
def test_sqlite_on_a_network_file_system_is_refused(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    path = spec.storage.removeprefix("sqlite:///")
    assert refused(spec.storage) == (
        f"study storage {path} is SQLite on {kind}, where its locks do not hold; use PostgreSQL"
    )
    mounts.append(SimpleNamespace(mountpoint=str(tmp_path / "local"), fstype="xfs"))
    open_storage(sqlite_url(tmp_path / "local" / "study.db"))  # the innermost mount counts


def test_two_storages_see_each_other_at_once(spec: StudySpec) -> None:
    one, two = begin(spec), open_study(spec)
    states: Sequence[str] = [trial.state.name for trial in two.get_trials()]
    assert states == ["WAITING"] * 4
    take(one, worker="w")
    assert [trial.state.name for trial in two.get_trials()] == ["RUNNING"] + ["WAITING"] * 3
