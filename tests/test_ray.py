"""Workers on a Ray cluster of two nodes: exact budgets whatever dies, places that are waited for, signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_cluster import cluster  # noqa: F401
from toy_study import attempts, check_complete, drive_with, journal, ray_engine, read, started

from fusion import UsageError
from search.identity import lives

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed (pip install 'ehrfusion[ray]')")


def test_two_workers_spend_the_budget_exactly(cluster: Any, tmp_path: Path) -> None:
    engine = ray_engine(tmp_path, 6, {"epochs": 2, "epoch_seconds": 0.2})
    assert engine.gpus == 0
    assert engine.places() == 2
    assert drive_with(engine, tmp_path, 6) == "complete"
    check_complete(tmp_path, 6)
    assert engine.running() == 0
    assert {log.name for log in (tmp_path / "workers").iterdir()} <= {"worker-0.log", "worker-1.log"}


def test_a_killed_worker_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    killed: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        if started(tmp_path) and not killed:
            killed.append(started(tmp_path)[0])
            os.kill(killed[0], signal.SIGKILL)
        if len(started(tmp_path)) >= 3:
            hold.unlink(missing_ok=True)

    assert (
        drive_with(ray_engine(tmp_path, 3, {"epochs": 2, "hold": str(hold)}), tmp_path, 3, on_tick=tick) == "complete"
    )
    check_complete(tmp_path, 3)
    (twice,) = [each for each in attempts(tmp_path).values() if len(each) == 2]
    assert twice[0].user_attrs["failure"] == "its worker died"


def test_workers_that_are_asked_to_stop_hand_back_their_trials(cluster: Any, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    engine = ray_engine(tmp_path, 2, {"epochs": 2, "hold": str(hold)})
    codes: list[int] = []
    asked: list[int] = []
    poll = engine.poll
    engine.poll = lambda: [codes.append(each[2]) or each for each in poll()]  # type: ignore[method-assign]

    def tick(trials: Sequence[FrozenTrial]) -> None:
        if len(started(tmp_path)) == 2 and not asked:  # asked twice, it would not wait for them
            asked.append(os.getpid())
            os.kill(os.getpid(), signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    assert drive_with(engine, tmp_path, 2, on_tick=tick) == "interrupted"
    assert codes == [0, 0]
    assert sorted(trial.state.name for trial in read(tmp_path)) == ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert all(each.user_attrs["crashes"] == 0 for each in read(tmp_path) if each.state == TrialState.WAITING)
    hold.unlink()
    assert drive_with(ray_engine(tmp_path, 2, {"epochs": 2}), tmp_path, 2) == "complete"
    check_complete(tmp_path, 2)
    assert [line["epoch"] for line in journal(tmp_path) if line["event"] == "start"] == [0, 0, 1, 1]


def test_a_worker_that_is_told_to_end_by_its_machine_does_so_in_peace(cluster: Any, tmp_path: Path) -> None:
    """As on machines that can be taken away: SIGTERM to the worker itself, which hands back; another goes on."""
    hold = tmp_path / "hold"
    hold.touch()
    told: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        if started(tmp_path) and not told:
            told.append(started(tmp_path)[0])
            os.kill(told[0], signal.SIGTERM)
        if len(started(tmp_path)) == 2:
            hold.unlink(missing_ok=True)

    engine = ray_engine(tmp_path, 1, {"epochs": 2, "hold": str(hold)})
    assert drive_with(engine, tmp_path, 1, workers=1, on_tick=tick) == "complete"
    check_complete(tmp_path, 1)
    assert read(tmp_path)[0].user_attrs["failure"] == "interrupted"


def test_places_that_are_not_there_are_waited_for(cluster: Any, tmp_path: Path) -> None:
    engine = ray_engine(tmp_path, 2, {"epochs": 1}, cpus=64.0, placement_seconds=5.0)
    assert engine.places() == 1
    notes: list[str] = []
    with pytest.raises(UsageError, match="no worker has found a place in the Ray cluster for 5 s") as raised:
        drive_with(engine, tmp_path, 2, workers=1, on_tick=lambda _: notes.append(engine.note()))
    assert "each takes 64 CPU (the cluster has 2)" in str(raised.value)
    assert notes[-1].startswith("1 of 1 workers wait for a place in the Ray cluster: each takes 64 CPU")
    assert engine.running() == 0


def test_more_workers_than_places_end_with_the_work(cluster: Any, tmp_path: Path) -> None:
    assert drive_with(ray_engine(tmp_path, 3, {}), tmp_path, 3, workers=4) == "complete"
    check_complete(tmp_path, 3)


def test_a_machine_that_lacks_the_data_says_so(cluster: Any, tmp_path: Path) -> None:
    engine = ray_engine(tmp_path, 1, {})
    engine.spec = replace(engine.spec, needs=("/no/such/data",))
    with pytest.raises(UsageError, match="has no /no/such/data; data and runs must be in folders that all machines"):
        drive_with(engine, tmp_path, 1, workers=1)
    assert [trial.state for trial in read(tmp_path)] == [TrialState.WAITING]


def test_a_removed_node_gives_its_worker_to_the_other(cluster: Any, tmp_path: Path) -> None:
    """The last test: it takes a node from the cluster."""
    hold = tmp_path / "hold"
    hold.touch()
    engine = ray_engine(tmp_path, 2, {"epochs": 2, "hold": str(hold)})
    gone: list[str] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        here = [each.begun for each in engine._workers.values() if each.begun is not None]
        if len(started(tmp_path)) == 2 and len(here) == 2 and not gone:
            (lost,) = [each.identity for each in here if each.node == cluster.second.node_id]
            gone.append(lost)
            cluster.remove_node(cluster.second, allow_graceful=False)
        if gone and not engine.runs(gone[0]):
            assert not lives(gone[0])
            hold.unlink(missing_ok=True)

    assert drive_with(engine, tmp_path, 2, on_tick=tick) == "complete"
    check_complete(tmp_path, 2)
    (twice,) = [each for each in attempts(tmp_path).values() if len(each) == 2]
    # on one machine the supervisor may see that the process is gone before Ray says that the node is
    assert twice[0].user_attrs["failure"] in ("interrupted", "its worker died")
    assert twice[1].user_attrs["worker"] not in gone
    until = time.monotonic() + 30
    while any(psutil.pid_exists(pid) for pid in started(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in started(tmp_path))
