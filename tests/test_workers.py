"""Real worker processes: exact budgets whatever dies, trials handed back and gone on with, drivers that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_study import attempts, check_complete, drive, journal, open_toy, read, toy_engine, until

from experiments import supervise as supervise_module
from experiments.supervise import supervise
from search.identity import lives, worker_id
from search.study import summary


@pytest.fixture(autouse=True)
def quick_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait ten seconds before a trial that nobody signed is taken for lost."""
    monkeypatch.setattr(supervise_module, "_UNSIGNED_SECONDS", 1.0)


# workers that live


def test_two_workers_spend_the_budget_exactly(tmp_path: Path) -> None:
    ticks: list[int] = []
    ending = drive(tmp_path, 8, {"epochs": 2, "broken": [3]}, on_tick=lambda trials: ticks.append(len(trials)))
    assert ending == "complete"
    roots = attempts(tmp_path)
    assert sorted(roots) == list(range(8))
    assert all(len(each) == 1 for each in roots.values())  # a trial that raises is not run again
    assert roots[3][0].state == TrialState.FAIL
    assert roots[3][0].user_attrs["failure"] == "ValueError: no such luck"
    complete = [trial for root, [trial] in roots.items() if root != 3]
    assert [trial.value for trial in complete] == [0, 1, 2, 4, 5, 6, 7]
    assert [[entry["epoch"] for entry in trial.user_attrs["history"]] for trial in complete] == [[1, 2]] * 7
    assert Counter(line["root"] for line in journal(tmp_path) if line["event"] == "start") == dict.fromkeys(range(8), 1)
    assert {trial.user_attrs["worker"].split(":")[0] for trial in complete} == {os.uname().nodename}
    assert ticks
    assert set(ticks) == {8}
    logs = sorted((tmp_path / "workers").iterdir())
    assert [log.name for log in logs] == ["worker-0.log", "worker-1.log"]
    assert "ValueError: no such luck" in "".join(log.read_text(encoding="utf-8") for log in logs)


def test_nothing_left_to_do_and_a_grown_budget(tmp_path: Path) -> None:
    assert drive(tmp_path, 2, {}, workers=1) == "complete"
    assert drive(tmp_path, 2, {}, workers=1) == "complete"
    check_complete(tmp_path, 2)
    assert drive(tmp_path, 5, {}, workers=2) == "complete"
    check_complete(tmp_path, 5)


def test_exit_codes(tmp_path: Path) -> None:
    """0 where the budget is spent, 0 on request, the signal's number where it was killed, 1 where it cannot start."""
    hold = tmp_path / "hold"
    hold.touch()
    study = open_toy(tmp_path, 2)
    workers = toy_engine(tmp_path, 2, {"hold": str(hold)})
    for slot in (0, 1):
        workers.start(slot)
    until(lambda: len(journal(tmp_path)) == 2)
    assert workers.poll() == []
    assert workers.running() == 2
    os.kill(_pid(workers, 0), signal.SIGKILL)
    until(lambda: not lives(workers._processes[0][0]))
    workers.signal(1)
    until(lambda: not lives(workers._processes[1][0]))
    ended: list[tuple[int, str, int]] = []
    until(lambda: ended.extend(workers.poll()) or len(ended) == 2)
    assert {slot: code for slot, _, code in ended} == {0: -signal.SIGKILL, 1: 0}
    assert workers.running() == 0
    states = Counter(trial.state.name for trial in study.get_trials())
    assert states == {"RUNNING": 1, "FAIL": 1, "WAITING": 1}

    elsewhere = toy_engine(tmp_path / "elsewhere", 2, {})
    elsewhere.start(0)
    until(lambda: not lives(elsewhere._processes[0][0]))
    until(lambda: ended.extend(elsewhere.poll()) or len(ended) == 3)
    assert ended[2][2] == 1
    log = (tmp_path / "elsewhere" / "workers" / "worker-0.log").read_text(encoding="utf-8")
    assert "there is no study 'toy' in its storage; start it with: ehrfusion search" in log


def test_workers_that_cannot_start_end_the_search_and_leave_their_tickets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise_module, "_CRASHES_ALLOWED", 2)
    study = open_toy(tmp_path, 3)
    workers = toy_engine(tmp_path, 3, {})
    workers.spec = replace(workers.spec, objective="toy_study:no_such_objective")
    assert supervise(study, workers, 2, on_tick=lambda _: None, poll_seconds=0.05) == "crashes"
    assert summary(study.get_trials()) == {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 3}


# workers that die; killed at random moments they are in test_kills.py


def test_a_dead_worker_is_replaced_while_the_other_goes_on(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    killed: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        pids = [line["pid"] for line in journal(tmp_path) if line["event"] == "start"]
        if len(pids) == 2 and not killed:
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)
        if len(pids) == 3:
            assert pids[2] not in pids[:2]
            hold.unlink(missing_ok=True)

    study = open_toy(tmp_path, 3)
    workers = toy_engine(tmp_path, 3, {"hold": str(hold)})
    assert supervise(study, workers, 2, on_tick=tick, poll_seconds=0.05) == "complete"
    check_complete(tmp_path, 3)
    assert len(read(tmp_path)) == 4


def test_a_poisoned_trial_is_run_twice_and_takes_no_other_with_it(tmp_path: Path) -> None:
    assert drive(tmp_path, 5, {"poison": [1]}) == "complete"
    roots = attempts(tmp_path)
    first, second = roots.pop(1)
    assert (first.state, first.user_attrs["failure"]) == (TrialState.FAIL, "its worker died")
    assert (second.state, second.user_attrs["failure"]) == (TrialState.FAIL, "its worker died twice")
    assert (second.user_attrs["attempt"], second.user_attrs["crashes"], second.params) == (1, 1, first.params)
    assert sorted(roots) == [0, 2, 3, 4]
    assert all([trial.state for trial in each] == [TrialState.COMPLETE] for each in roots.values())
    assert summary(read(tmp_path)) == {"complete": 4, "pruned": 0, "failed": 1, "running": 0, "waiting": 0}


def test_a_trial_whose_worker_died_before_it_could_sign_is_run_again(tmp_path: Path) -> None:
    assert open_toy(tmp_path, 2)._pop_waiting_trial_id() is not None  # its worker is killed here
    assert drive(tmp_path, 2, {}, workers=1) == "complete"
    check_complete(tmp_path, 2)
    assert sorted(map(len, attempts(tmp_path).values())) == [1, 2]


def test_a_trial_is_handed_back_also_if_the_driver_died_while_it_did_so(tmp_path: Path) -> None:
    study = open_toy(tmp_path, 1)
    trial_id = study._pop_waiting_trial_id()
    assert trial_id is not None
    study._storage.set_trial_user_attr(trial_id, "failure", "its worker died")
    study._storage.set_trial_state_values(trial_id, TrialState.FAIL)  # and here the driver died
    assert drive(tmp_path, 1, {}, workers=1) == "complete"
    check_complete(tmp_path, 1)
    assert drive(tmp_path, 1, {}, workers=1) == "complete"
    assert len(read(tmp_path)) == 2


def test_a_worker_is_known_by_more_than_its_number() -> None:
    mine = worker_id(os.getpid(), "abc")
    host, boot, process, nonce = mine.rsplit(":", 3)
    assert (host, nonce) == (os.uname().nodename, "abc")
    assert lives(mine)
    assert lives(f"elsewhere:{boot}:{process}:abc")  # who knows
    assert not lives(f"{host}:another:{process}:abc")  # before the machine was started again
    assert not lives(f"{host}:{boot}:{process}0:abc")  # another process that got the number later
    finished = subprocess.Popen([sys.executable, "-c", ""])
    until(lambda: psutil.Process(finished.pid).status() == psutil.STATUS_ZOMBIE)
    assert not lives(worker_id(finished.pid, "abc"))
    finished.wait()
    assert not lives(worker_id(finished.pid, "abc"))


# a budget in seconds


def test_a_budget_in_seconds_ends_and_is_accounted(tmp_path: Path) -> None:
    study = open_toy(tmp_path, None)
    for seconds in (1.0, 4.0, 16.0):  # on a busy machine workers may need a second to start
        spent: list[float] = []
        workers = toy_engine(tmp_path, None, {"epochs": 1000, "epoch_seconds": 0.1})
        options: dict[str, Any] = {"seconds": seconds, "on_spent": spent.append, "poll_seconds": 0.05}
        assert supervise(study, workers, 2, on_tick=lambda _: None, **options) == "budget"
        assert sum(spent) >= seconds
        trials = study.get_trials()
        if trials:
            break
    assert 1 <= len(trials) <= 2
    assert {trial.state for trial in trials} == {TrialState.PRUNED}  # 100 s of epochs end with the budget
    assert {trial.user_attrs["pruned_by"] for trial in trials} == {"budget"}


def test_a_dead_worker_is_replaced_while_there_is_time(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    workers = toy_engine(tmp_path, None, {"hold": str(hold)})
    pids: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        started = [line["pid"] for line in journal(tmp_path)]
        if len(started) == 1 and not pids:
            pids.append(started[0])
            os.kill(started[0], signal.SIGKILL)
        if len(started) > 1:
            hold.unlink(missing_ok=True)
            workers.signal(2)

    study = open_toy(tmp_path, None)
    supervise(study, workers, 1, on_tick=tick, seconds=20.0, poll_seconds=0.05)
    first, second, *_ = study.get_trials()
    assert (first.user_attrs["failure"], second.user_attrs["root"]) == ("its worker died", 0)
    assert second.user_attrs["worker"] != first.user_attrs["worker"]


def test_workers_that_do_not_end_in_time_are_killed(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    study = open_toy(tmp_path, None)
    workers = toy_engine(tmp_path, None, {"hold": str(hold), "stubborn": True})
    ending = supervise(study, workers, 1, on_tick=lambda _: None, seconds=0.5, poll_seconds=0.05, grace_seconds=0.5)
    assert ending == "budget"
    assert workers.running() == 0
    assert summary(study.get_trials())["running"] == 0


def test_no_worker_is_left_behind_when_the_driver_fails(tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    workers = toy_engine(tmp_path, 2, {"hold": str(hold)})

    def full(trials: Sequence[FrozenTrial]) -> None:
        if len(journal(tmp_path)) == 2:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        supervise(open_toy(tmp_path, 2), workers, 2, on_tick=full, poll_seconds=0.05)
    assert not any(lives(identity) for identity, _ in workers._processes.values())
    assert summary(read(tmp_path))["waiting"] == 2


def _pid(workers: Any, slot: int) -> int:
    return int(workers._processes[slot][1].pid)
