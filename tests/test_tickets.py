"""Waiting trials: each is started once however many ask, and what a worker has read of the others stays true."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Connection, event, exc
from toy_postgres import Server
from toy_trials import ATTRIBUTES, begin, spec  # noqa: F401 - fixtures

from search import storage as storages
from search.pruning import root_of
from search.reading import read_trials
from search.stacking import _take
from search.storage import BudgetSpent, close_study, sqlite_url, storage_of
from search.study import StudySpec, create_or_resume, issue_tickets, open_study
from search.tickets import TicketStudy

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed")  # workers use `optimize`


def start_all(spec: StudySpec, found: list[int]) -> None:
    study = open_study(spec)
    with suppress(BudgetSpent):
        while True:
            found.append(study.ask().number)
    close_study(study)


def by_eight(spec: StudySpec) -> Counter[int]:
    close_study(begin(spec))
    found: list[int] = []
    threads = [threading.Thread(target=start_all, args=(spec, found)) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return Counter(found)


def test_eight_that_ask_at_once_start_each_trial_once(tmp_path: Path) -> None:
    spec = StudySpec("toy", sqlite_url(tmp_path / "study.db"), "maximize", seed=7, sampler="random", trials=40)
    assert by_eight(spec) == Counter(range(40))


def test_they_do_so_on_a_server(server: Server) -> None:
    spec = StudySpec("toy", server.url, "maximize", seed=7, sampler="random", trials=40)
    assert by_eight(spec) == Counter(range(40))


def test_one_waits_for_nobody_elses_trial(server: Server) -> None:
    """While another worker is just starting trial 0, the next one starts trial 1."""
    spec = StudySpec("toy", server.url, "maximize", seed=7, sampler="random", trials=3)
    study, other = begin(spec), open_study(spec)
    storage = storage_of(study)
    assert storage is not None
    with storage.engine.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM trials WHERE number = 0 FOR UPDATE")
        assert other.ask().number == 1
    assert other.ask().number == 0
    for each in (study, other):
        close_study(each)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_cut_while_it_is_started_a_trial_is_handed_back_and_the_budget_met(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 connection cut after the trial was started, before the answer: 0 of 3 trials lost, 0 twice."""
    spec = StudySpec("toy", server.url, "maximize", seed=7, sampler="random", pruner="none", trials=3)
    study = begin(spec)
    storage = storage_of(study)
    assert storage is not None
    started: list[str] = []

    @event.listens_for(storage.engine, "before_cursor_execute")
    def _(_c: object, _cursor: object, statement: str, *_: object) -> None:
        started.extend([statement] if statement.startswith("UPDATE trials SET state") else [])

    @event.listens_for(storage.engine, "commit")
    def _(connection: Connection) -> None:
        if len(started) == 1:
            started.append("cut")
            connection.exec_driver_sql("COMMIT")  # it is done, but nobody says so
            raise exc.OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    assert study.ask().number == 1, "0 was started, and nobody heard of it"
    monkeypatch.setattr(storages, "HEARTBEAT_SECONDS", -1)  # the age of trials that never beat
    optuna.storages.fail_stale_trials(study)  # any worker does so, before each trial
    trials = study.get_trials()
    assert [(each.state.name, root_of(each)) for each in trials] == [
        *[("FAIL", 0), ("FAIL", 1), ("WAITING", 2)],
        *[("WAITING", 0), ("WAITING", 1)],  # the second did not beat either: `ask` alone starts no heartbeat
    ]
    close_study(study)


def test_a_study_that_is_gone_is_no_spent_budget(spec: StudySpec) -> None:
    study = begin(spec)
    optuna.delete_study(study_name="toy", storage=study._storage)
    with pytest.raises(KeyError):
        study.ask()
    close_study(study)


def test_a_trial_that_another_worker_added_takes_parameters(spec: StudySpec) -> None:
    """It was not there when this worker last read, as a trial that is handed back or drawn anew."""
    study, other = begin(spec), open_study(spec)
    for _ in range(4):
        study.ask()
    other.add_trial(create_trial(state=TrialState.WAITING))
    trial = study.ask()
    assert trial.number == 4
    assert trial.suggest_int("x", 3, 3) == 3
    for each in (study, other):
        close_study(each)


def test_one_with_all_tickets_taken_has_none_left(spec: StudySpec) -> None:
    study, other = begin(spec), open_study(spec)
    assert [study.ask().number for _ in range(4)] == [0, 1, 2, 3]
    for each in (study, other):
        with pytest.raises(BudgetSpent):
            each.ask()
        close_study(each)


def test_a_stack_passes_over_what_another_worker_has_ended(spec: StudySpec) -> None:
    """Between reading what waits and taking the first, another worker may have been through it."""
    study, other = begin(spec), open_study(spec)
    seen = study.get_trials()
    other.tell(other.ask(), 0.5)
    study.get_trials = lambda **_: seen  # type: ignore[method-assign,assignment]
    taken = _take(study, {}, True)
    assert taken is not None
    assert taken.number == 1
    for each in (study, other):
        close_study(each)


def test_ask_starts_trials_that_way(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin(spec)
    assert isinstance(study, TicketStudy)
    monkeypatch.setattr(RDBStorage, "set_trial_state_values", lambda *_, **__: pytest.fail("started by Optuna"))
    trial = study.ask()
    assert trial.number == 0
    started = study.get_trials()[0]
    assert (started.state, started.datetime_start is not None) == (TrialState.RUNNING, True)
    close_study(study)


def test_another_kind_of_storage_starts_trials_as_optuna_does() -> None:
    study = optuna.create_study(study_name="toy", storage=optuna.storages.InMemoryStorage())
    study.add_trial(create_trial(state=TrialState.WAITING))
    assert TicketStudy("toy", study._storage).ask().number == 0


def test_what_waits_is_read_once(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(*arguments: Any) -> list[FrozenTrial]:
        found = read_trials(*arguments)
        read.append(len(found))
        return found

    monkeypatch.setattr("search.storage.read_trials", counted)
    study = begin(spec)
    assert len(study.get_trials()) == 4
    read.clear()
    assert len(study.get_trials()) == 4
    assert read == [0]
    study.ask()
    read.clear()
    assert len(study.get_trials()) == 4
    assert read == [1]  # the one that runs
    close_study(study)


def test_times_are_optunas(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps them in UTC and shows them where the reader is."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    study = begin(spec)
    study.ask()
    [started] = study.get_trials(states=(TrialState.RUNNING,))
    close_study(study)
    monkeypatch.undo()
    time.tzset()
    assert started.datetime_start is not None
    late = (datetime.now(UTC) + timedelta(hours=5.5)).replace(tzinfo=None) - started.datetime_start
    assert timedelta(0) <= late < timedelta(minutes=5)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add with settings", "ask", "report", "note", "complete", "fail", "read"]),
        st.integers(0, 1),
        st.integers(0, 9),
    ),
    min_size=5,
    max_size=40,
)


def test_two_workers_read_what_the_database_has(tmp_path: Path) -> None:
    """Whatever two workers do, in whatever order, each reads what Optuna itself does."""
    url, names = sqlite_url(tmp_path / "study.db"), count()  # one database: to make each takes the longest

    @settings(max_examples=12, deadline=None, phases=[Phase.generate], database=None)
    @given(STEPS)
    def case(steps: list[tuple[str, int, int]]) -> None:
        spec = StudySpec(f"toy{next(names)}", url, "maximize", seed=7, sampler="random", trials=2)
        first = create_or_resume(spec, ATTRIBUTES)
        issue_tickets(first, 2)
        workers = [first, open_study(spec)]
        for step, worker, place in steps:
            do(workers[worker], step, place)
        plain = RDBStorage(spec.storage)
        wanted = repr(optuna.load_study(study_name=spec.name, storage=plain).get_trials())  # NaN is not equal to itself
        for each in workers:
            assert repr(each.get_trials()) == wanted
            close_study(each)
        plain.engine.dispose()

    case()


def do(study: optuna.Study, step: str, place: int) -> None:
    if step.startswith("add"):
        settings = {"fixed_params": {"x": place}} if step.endswith("settings") else {}
        study.add_trial(create_trial(state=TrialState.WAITING, system_attrs=settings))
        return
    if step == "ask":
        with suppress(BudgetSpent):
            trial = study.ask()
            trial.suggest_int("x", 0, 9)
            trial.suggest_float("rate", 1e-4, 1.0, log=True)
            trial.suggest_categorical("kind", ["a", "b"])
        return
    running = study.get_trials(states=(TrialState.RUNNING,))
    if not running or step == "read":
        return
    chosen = running[place % len(running)]._trial_id
    if step == "report":
        value = (0.5, math.nan, math.inf, -math.inf)[place % 4]
        study._storage.set_trial_intermediate_value(chosen, place, value)
    elif step == "note":
        study._storage.set_trial_user_attr(chosen, "note", place)
    else:
        complete = step == "complete"
        state = TrialState.COMPLETE if complete else TrialState.FAIL
        study._storage.set_trial_state_values(chosen, state, [0.5] if complete else None)
