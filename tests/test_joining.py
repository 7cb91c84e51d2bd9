"""Workers of many hosts on PostgreSQL without any driver: they die, the server restarts, more come; nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from toy_postgres import Server
from toy_study import attempts, check_complete, join, journal, until
from toy_trials import begin, spec, take  # noqa: F401 - fixtures

from search import identity
from search import storage as storage_module
from search.attempts import fail, hand_back_crashed
from search.identity import boot_id, lives, lives_here, worker_id
from search.pruning import root_of
from search.storage import NO_SIGN_OF_LIFE
from search.study import StudySpec, create_or_resume, issue_tickets, open_study


def start(folder: Path, host: str, **settings: Any) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_study"])
    process = context.Process(target=join, args=(folder, 6, settings, host))
    process.start()
    return process


def last_beat(url: str, host: str, days_ago: int) -> int:
    """Move the last heartbeat of a host's running trial, and return how many trials that were."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        return connection.execute(
            text(
                "UPDATE trial_heartbeats SET heartbeat = heartbeat - make_interval(days => :days) WHERE trial_id IN "
                "(SELECT trials.trial_id FROM trials JOIN trial_user_attributes AS noted USING (trial_id) "
                "WHERE state = 'RUNNING' AND key = 'worker' AND value_json LIKE :host)"
            ),
            {"days": days_ago, "host": f"%{host}:%"},
        ).rowcount


def test_a_dead_host_and_a_restarted_server_cost_no_trial_and_need_no_driver(tmp_path: Path, server: Server) -> None:
    """3 cold starts at once, 1 kill, 1 restart of 1 s, 1 more worker: 0 of 6 trials lost, 0 doubled, 7 attempts."""
    (tmp_path / "storage").write_text(server.url, encoding="utf-8")
    hold = tmp_path / "hold"
    hold.touch()
    options = {"epochs": 2, "hold": str(hold)}
    workers = {host: start(tmp_path, host, **options) for host in ("ada", "bob", "eve")}
    until(lambda: len(journal(tmp_path)) == 3, 900)
    for host in workers:
        until(lambda host=host: last_beat(server.url, host, 0) == 1)
    workers["eve"].kill()
    workers["eve"].join()
    assert last_beat(server.url, "eve", 1) == 1
    server.stop()
    time.sleep(1.0)
    server.start()
    workers["new"] = start(tmp_path, "new", **options)
    until(lambda: len(journal(tmp_path)) == 4, 900)
    hold.unlink()
    for worker in workers.values():
        worker.join(900)
    assert [worker.exitcode for worker in workers.values()] == [0, 0, -9, 0]
    check_complete(tmp_path, 6)
    again = [each for each in attempts(tmp_path).values() if len(each) > 1]
    assert [[trial.user_attrs.get("failure") for trial in each] for each in again] == [[NO_SIGN_OF_LIFE, None]]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_trial_that_never_had_a_heartbeat_is_found_by_any_host(
    spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2 faults: killed before the first heartbeat, one of them before it signed; both run again, and once."""
    study = begin(spec)
    take(study, worker="elsewhere:boot:1-1:x")
    take(study)
    mine = take(study, worker=worker_id(os.getpid(), "x"))
    clock = [0.0]
    monkeypatch.setattr(storage_module, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep))
    for seconds in (0.0, 50.0):
        clock[0] = seconds
        optuna.storages.fail_stale_trials(study)
        assert not study.get_trials(states=(TrialState.FAIL,))
    clock[0] = 61.0
    for _ in range(2):
        optuna.storages.fail_stale_trials(study)
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert [(each.number, each.user_attrs["failure"]) for each in failed] == [
        (0, NO_SIGN_OF_LIFE),
        (1, NO_SIGN_OF_LIFE),
    ]
    waiting = [each for each in study.get_trials(states=(TrialState.WAITING,)) if "attempt" in each.user_attrs]
    assert sorted(map(root_of, waiting)) == [0, 1]
    assert study.get_trials()[mine.number].state == TrialState.RUNNING  # it lives here


def test_many_that_hand_back_one_trial_at_once_do_so_once(spec: StudySpec, server: Server) -> None:
    """8 at once, 1 handed back; without the lock several are."""
    spec = replace(spec, storage=server.url, trials=1)
    study = create_or_resume(spec, {})
    issue_tickets(study, 1)
    trial = take(study, worker="elsewhere:boot:1-1:x")
    assert fail(study, trial, NO_SIGN_OF_LIFE)
    failed = study.get_trials()[0]
    studies = [open_study(spec, slot=place) for place in range(8)]
    ready = threading.Barrier(8)

    def hand_back(found: optuna.Study) -> None:
        ready.wait(60)
        hand_back_crashed(found, failed)

    threads = [threading.Thread(target=hand_back, args=(each,)) for each in studies]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.state for each in study.get_trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_containers_that_share_a_name_do_not_judge_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    host, boot = os.uname().nodename, boot_id().partition("-")[0]
    monkeypatch.setattr(identity, "boot_id", lambda: f"{boot}-77")
    assert not lives(f"{host}:{boot}-77:99999999-1:x")  # of this container, and gone
    assert lives(f"{host}:{boot}-88:99999999-1:x")  # who knows
    assert not lives_here(f"{host}:{boot}-88:99999999-1:x")
    assert not lives(f"{host}:earlier-88:99999999-1:x")  # the machine was started again since
    assert not lives_here("")
