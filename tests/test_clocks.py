"""Clocks that are wrong: other time zones, jumps by an hour. Nothing is taken for dead, and durations stay true."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest
from toy_study import attempts, check_complete, open_toy, toy_engine
from toy_training import folder, run, store  # noqa: F401 - fixtures

from experiments.data.store import Store
from experiments.supervise import supervise


def test_workers_in_other_time_zones_are_not_taken_for_dead(tmp_path: Path) -> None:
    """2 workers whose clocks show 13 hours more and 8 less; 0 of 4 trials lost or run twice."""
    study = open_toy(tmp_path, 4)
    engine = toy_engine(tmp_path, 4, {"epochs": 2, "epoch_seconds": 0.05})
    zones = iter(("Pacific/Auckland", "America/Los_Angeles"))
    start = engine.start

    def start_elsewhere(slot: int) -> None:
        engine.spec = replace(engine.spec, environment={"TZ": next(zones, "UTC")})
        start(slot)

    engine.start = start_elsewhere  # type: ignore[method-assign]
    assert supervise(study, engine, 2, on_tick=lambda _: None, poll_seconds=0.05) == "complete"
    check_complete(tmp_path, 4)
    assert [len(each) for each in attempts(tmp_path).values()] == [1] * 4


def test_durations_do_not_hang_on_the_clock_of_the_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle((3600.0, -3600.0))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    started = time.monotonic()
    fit = run(store, epochs=2)
    took = time.monotonic() - started
    assert 0 < sum(entry["seconds"] for entry in fit.history) <= fit.seconds + 1e-6 <= took
