"""A database server that goes away: waited for, asked again, and no trial is lost or doubled by it."""

from __future__ import annotations

import gc
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool, create_engine, exc, text
from toy_postgres import Server, pooler
from toy_study import attempts, check_complete, drive, journal, until
from toy_trials import begin, spec, take  # noqa: F401 - fixtures

from fusion.component import UsageError
from search import outage
from search.outage import wait_for_server
from search.storage import StudyStorage, open_storage
from search.study import StudySpec


class Refused(Exception):
    pass


def cut() -> optuna.exceptions.StorageInternalError:
    error = optuna.exceptions.StorageInternalError("an exception is raised during the commit")
    error.__cause__ = exc.OperationalError("UPDATE", {}, Exception("gone"), connection_invalidated=True)
    return error


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted instead of made, and the clock moves by them."""
    made: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(made), sleep=made.append)
    monkeypatch.setattr(outage, "time", clock)
    return made


def test_a_connection_waits_for_the_server_but_not_for_ever(pauses: list[float]) -> None:
    answers = [Refused, Refused, Refused]

    def connect(*_: Any, **__: Any) -> str:
        if answers:
            raise answers.pop()
        return "connected"

    dialect = SimpleNamespace(connect=connect, loaded_dbapi=SimpleNamespace(OperationalError=Refused))
    assert wait_for_server(dialect, None, [], {}) == "connected"
    assert pauses == [0.25, 0.5, 1.0]
    answers = [Refused] * 10_000
    with pytest.raises(Refused):
        wait_for_server(dialect, None, [], {})
    assert outage.PATIENCE_SECONDS < sum(pauses) < outage.PATIENCE_SECONDS + 20


def test_what_was_cut_is_said_again_and_what_was_refused_is_not(
    spec: StudySpec, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = take(begin(spec), worker="w")
    storage = open_storage(spec.storage)
    for name in ("set_trial_user_attr", "set_trial_state_values"):  # wrapped anew, around a method that is cut once
        errors = [cut()]
        original = getattr(RDBStorage, name)

        def shaky(self: RDBStorage, *given: Any, original: Any = original, errors: Any = errors) -> Any:
            done = original(self, *given)
            if errors:
                raise errors.pop()  # it is done, but nobody said so
            return done

        shaky.__name__ = name
        monkeypatch.setattr(StudyStorage, name, outage._repeated(shaky))
    storage.set_trial_user_attr(trial._trial_id, "note", 1)
    assert storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])
    assert storage.get_trial(trial._trial_id).state == TrialState.COMPLETE
    assert len(pauses) == 2
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert len(pauses) == 2


def test_a_server_that_restarts_costs_time_and_no_trial(tmp_path: Path, server: Server) -> None:
    """2 faults: it is away for half a second and for 2 s while two workers train; 0 of 6 trials lost, 0 doubled."""
    (tmp_path / "storage").write_text(server.url, encoding="utf-8")
    away: list[float] = []

    def restart() -> None:
        for seconds in (0.5, 2.0):
            until(lambda: len(journal(tmp_path)) > 3 * len(away), 300)
            server.stop()
            time.sleep(seconds)
            server.start()
            away.append(seconds)

    administrator = threading.Thread(target=restart, daemon=True)
    administrator.start()

    def tick(trials: Sequence[FrozenTrial]) -> None:
        assert not [trial.user_attrs.get("failure") for trial in trials if trial.state == TrialState.FAIL]

    assert drive(tmp_path, 6, {"epochs": 20, "epoch_seconds": 0.1}, on_tick=tick) == "complete"
    administrator.join()
    assert away == [0.5, 2.0]
    check_complete(tmp_path, 6)
    assert [len(each) for each in attempts(tmp_path).values()] == [1] * 6
    assert Counter(line["root"] for line in journal(tmp_path) if line["event"] == "start") == dict.fromkeys(range(6), 1)


def test_a_pooler_may_stand_between_and_lend_each_transaction_another_connection(
    tmp_path: Path, server: Server
) -> None:
    """Driver and 2 workers share 4 connections of the server: 0 of 8 trials lost or doubled."""
    with pooler(server, connections=4) as address:
        (tmp_path / "storage").write_text(address, encoding="utf-8")
        assert drive(tmp_path, 8, {"epochs": 10}) == "complete"
        check_complete(tmp_path, 8)
        assert [len(each) for each in attempts(tmp_path).values()] == [1] * 8
        assert 0 < _connections(server) <= 4


def test_a_server_that_was_never_there_is_one_line_at_once(server: Server) -> None:
    server.stop()
    started = time.monotonic()
    with pytest.raises(UsageError, match=r"^study storage postgresql\+psycopg://127.0.0.1/study\d+ does not answer: "):
        open_storage(server.url)
    assert time.monotonic() - started < 10


def test_a_storage_that_nobody_closed_leaves_no_connection_behind(server: Server) -> None:
    storage = open_storage(server.url)
    optuna.create_study(storage=storage)
    assert _connections(server) > 0
    del storage
    gc.collect()
    until(lambda: _connections(server) == 0)


def _connections(server: Server) -> int:
    here = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
    with create_engine(server.url, poolclass=NullPool).connect() as asking:
        return int(asking.execute(here).scalar_one())
