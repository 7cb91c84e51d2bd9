"""Drivers as processes: told to end, killed alone or with everything, or two at once; nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_study import check_complete, drive, journal, open_toy, read, until

HERE = Path(__file__).resolve().parent


def driver(folder: Path, trials: int, settings: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a driver in its own group of processes, as a terminal does."""
    told = json.dumps({"folder": str(folder), "trials": trials, "settings": settings})
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.Popen(
        [sys.executable, str(HERE / "toy_study.py"), told],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def holding(folder: Path, **settings: Any) -> subprocess.Popen[str]:
    """Start a driver of 5 trials and wait until both its workers hold in the second of two epochs."""
    hold = folder / "hold"
    hold.touch()
    found = driver(folder, 5, {"epochs": 2, "hold": str(hold), **settings})
    until(lambda: len(list(folder.glob("checkpoint-?"))) == 2)
    return found


def check_handed_back(folder: Path, crashes: int, failure: str) -> None:
    """No worker lives, and the two trials wait to be gone on with."""
    pids = {line["pid"] for line in journal(folder)}
    until(lambda: not any(map(psutil.pid_exists, pids)))
    trials = read(folder)
    assert len(trials) == 7
    assert {trial.user_attrs["failure"] for trial in trials[:2]} == {failure}
    assert [trial.state.name for trial in trials] == ["FAIL"] * 2 + ["WAITING"] * 5
    assert [trial.user_attrs["crashes"] for trial in trials[5:]] == [crashes] * 2
    assert sorted(trial.user_attrs["root"] for trial in trials[5:]) == [0, 1]


def check_goes_on(folder: Path) -> None:
    """The same command, with another number of workers, runs what is left and goes on with what had begun."""
    (folder / "hold").unlink()
    assert drive(folder, 5, {"epochs": 2}, workers=3) == "complete"
    check_complete(folder, 5)
    starts = [line for line in journal(folder) if line["event"] == "start"]
    assert Counter((line["root"], line["attempt"], line["epoch"]) for line in starts) == dict.fromkeys(
        [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (0, 1, 1), (1, 1, 1)], 1
    )
    for root in (0, 1):
        first, again = (line for line in starts if line["root"] == root)
        assert (first["seed"], first["candidate"]) == (again["seed"], again["candidate"])


@pytest.mark.parametrize("group", [False, True], ids=["the driver", "its whole group"])
def test_sigterm_hands_trials_back_and_resuming_completes_the_budget(tmp_path: Path, group: bool) -> None:
    """Kill and batch systems signal the driver, or every process at once, also the one that forks the workers."""
    process = holding(tmp_path, farewell_seconds=0.5)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=30)[0].splitlines() == ["interrupted"]
    assert process.returncode == 0
    check_handed_back(tmp_path, 0, "interrupted")
    check_goes_on(tmp_path)


def test_workers_of_a_killed_driver_hand_back_and_end_by_themselves(tmp_path: Path) -> None:
    process = holding(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, "it ended by itself"
    check_handed_back(tmp_path, 0, "interrupted")
    check_goes_on(tmp_path)


def test_trials_of_a_machine_that_went_down_are_recovered(tmp_path: Path) -> None:
    process = holding(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert [trial.state.name for trial in read(tmp_path)] == ["RUNNING"] * 2 + ["WAITING"] * 3
    check_goes_on(tmp_path)
    lost = read(tmp_path)[:2]
    assert {trial.user_attrs["failure"] for trial in lost} == {"its worker died"}


def test_the_second_ctrl_c_ends_workers_that_do_not_listen_and_blames_no_trial(tmp_path: Path) -> None:
    process = holding(tmp_path, stubborn=True)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # the first asks politely
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=30)[0].splitlines() == ["interrupted"]
    check_handed_back(tmp_path, 0, "interrupted")
    check_goes_on(tmp_path)


def test_two_drivers_share_one_study(tmp_path: Path) -> None:
    open_toy(tmp_path, 12)
    other = driver(tmp_path, 12, {"epoch_seconds": 0.02})
    assert drive(tmp_path, 12, {"epoch_seconds": 0.1}) == "complete"
    assert other.communicate(timeout=60)[0].splitlines() == ["complete"]
    check_complete(tmp_path, 12)
    assert len(read(tmp_path)) == 12
