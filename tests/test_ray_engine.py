"""The engine of Ray, with a stand-in for Ray and real workers: places, deaths, lost nodes, signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_ray import Cluster, nodes  # noqa: F401
from toy_study import attempts, check_complete, drive_with, ray_engine, read, signal_the_first, started

from fusion import UsageError


def test_more_workers_than_places_spend_the_budget_exactly(nodes: Cluster, tmp_path: Path) -> None:
    """The third has no place, and is not waited for when the work is done."""
    engine = ray_engine(tmp_path, 5, {"epochs": 2})
    assert (engine.gpus, engine.places()) == (0, 2)
    assert drive_with(engine, tmp_path, 5, workers=3) == "complete"
    check_complete(tmp_path, 5)
    assert engine.running() == 0
    assert not any(each.alive for each in nodes.actors)


def test_a_killed_worker_is_replaced_and_blamed(nodes: Cluster, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    tick = signal_the_first(tmp_path, hold, 2, signal.SIGKILL)

    engine = ray_engine(tmp_path, 1, {"epochs": 2, "hold": str(hold)})
    assert drive_with(engine, tmp_path, 1, workers=1, on_tick=tick) == "complete"
    check_complete(tmp_path, 1)
    assert [each.user_attrs.get("failure") for each in read(tmp_path)] == ["its worker died", None]


def test_a_lost_node_is_nobodys_fault(nodes: Cluster, tmp_path: Path) -> None:
    """Three times; a trial whose worker died would be run once more only."""
    hold = tmp_path / "hold"
    hold.touch()
    lost: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        pids = started(tmp_path)
        if len(pids) > len(lost) and len(lost) < 3:
            here = next(each.node for each in nodes.actors if each.alive and each.node)
            nodes.nodes[f"node-{len(nodes.nodes)}"] = True  # the cluster grows another
            nodes.remove(here)
            os.kill(pids[-1], signal.SIGKILL)
            lost.append(pids[-1])
        if len(pids) == 4:
            hold.unlink(missing_ok=True)

    engine = ray_engine(tmp_path, 1, {"epochs": 2, "hold": str(hold)})
    assert drive_with(engine, tmp_path, 1, workers=1, on_tick=tick) == "complete"
    check_complete(tmp_path, 1)
    assert [each.user_attrs.get("failure") for each in read(tmp_path)] == ["interrupted"] * 3 + [None]
    assert len(set(started(tmp_path))) == 4


def test_a_worker_whose_actor_dies_is_left_to_hand_back_its_trial(nodes: Cluster, tmp_path: Path) -> None:
    """Its process lives for now: a second worker for its trial must not begin before it has ended."""
    hold = tmp_path / "hold"
    hold.touch()
    dropped: list[str] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        if started(tmp_path) and not dropped:
            (here,) = [each.begun.identity for each in engine._workers.values()]
            dropped.append(here)
            nodes.actors[0].alive = False
            os.kill(started(tmp_path)[0], signal.SIGTERM)  # what it would do when it misses its actor
        if len(started(tmp_path)) == 2:
            hold.unlink(missing_ok=True)

    engine = ray_engine(tmp_path, 1, {"epochs": 2, "hold": str(hold), "farewell_seconds": 0.5})
    assert drive_with(engine, tmp_path, 1, workers=1, on_tick=tick) == "complete"
    check_complete(tmp_path, 1)
    assert [each.user_attrs.get("failure") for each in read(tmp_path)] == ["interrupted", None]
    assert len(attempts(tmp_path)[0]) == 2


def test_workers_that_are_asked_to_stop_hand_back_their_trials(nodes: Cluster, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    asked: list[int] = []

    def tick(trials: Sequence[FrozenTrial]) -> None:
        if len(started(tmp_path)) == 2 and not asked:  # asked twice, it would not wait for them
            asked.append(os.getpid())
            os.kill(os.getpid(), signal.SIGTERM)

    engine = ray_engine(tmp_path, 2, {"epochs": 2, "hold": str(hold)})
    codes: list[int] = []
    poll = engine.poll
    engine.poll = lambda: [codes.append(each[2]) or each for each in poll()]
    assert drive_with(engine, tmp_path, 2, on_tick=tick) == "interrupted"
    assert codes == [0, 0]
    assert sorted(each.state.name for each in read(tmp_path)) == ["FAIL", "FAIL", "WAITING", "WAITING"]


def test_places_that_are_not_there_are_waited_for(
    nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("experiments.ray_engine")  # not the package's attribute, which is of the test before

    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.0)
    engine = ray_engine(tmp_path, 2, {}, cpus=64.0, placement_seconds=0.5)
    notes: list[str] = []
    with pytest.raises(UsageError, match=r"no worker has found a place in the Ray cluster for 0\.5 s") as raised:
        drive_with(engine, tmp_path, 2, workers=2, on_tick=lambda _: notes.append(engine.note()))
    assert "each takes 64 CPU (the cluster has 2)" in str(raised.value)
    assert notes[-1].startswith("2 of 2 workers wait for a place in the Ray cluster: each takes 64 CPU")
    assert engine.running() == 0


def test_a_machine_that_lacks_the_data_says_so(nodes: Cluster, tmp_path: Path) -> None:
    engine = ray_engine(tmp_path, 1, {})
    engine.spec = replace(engine.spec, needs=("/no/such/data",))
    with pytest.raises(UsageError, match="has no /no/such/data; data and runs must be in folders that all machines"):
        drive_with(engine, tmp_path, 1, workers=1)
    assert [trial.state for trial in read(tmp_path)] == [TrialState.WAITING]


def test_machines_that_cannot_share_sqlite(nodes: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("experiments.ray_engine")  # not the package's attribute, which is of the test before
    from experiments.ray_host import missing

    module.check_storage("sqlite:///study.db")  # two nodes of one machine
    monkeypatch.setattr(module, "machines", lambda: {"one", "two"})
    module.check_storage("postgresql://somewhere")
    with pytest.raises(UsageError, match="the Ray cluster has 2 machines, which cannot share SQLite; give search"):
        module.check_storage("sqlite:///study.db")
    spec, here = ray_engine(tmp_path, 1, {}).spec, os.uname().nodename
    assert missing(spec, here) == ""
    assert f"is SQLite on elsewhere, and a worker was placed on {here}; give" in missing(spec, "elsewhere")
