"""A tracking server that is away when a search begins: training is not affected, and everything is written later."""

from __future__ import annotations

import multiprocessing
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toy_search import preloaded, study  # noqa: F401 - a fixture

from experiments.searching import run_search, sync_study
from experiments.tracking.late import LateTracker
from experiments.tracking.project import StudyTracker
from experiments.tracking.runs import TrackerAway, connect, find_runs
from fusion.component import UsageError


class Recorder:
    """What a tracker is told, and whether it takes it."""

    problem: str | None = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def sync(self, *_: Any) -> bool:
        self.told.append("sync")
        return True

    def finish(self, *_: Any, status: str, **__: Any) -> bool:
        self.told.append(status)
        return True


def test_it_is_asked_now_and_then_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("experiments.tracking.late.time", SimpleNamespace(monotonic=lambda: clock[0]))
    recorder, asked = Recorder(), []

    def find() -> Any:
        asked.append(clock[0])
        if len(asked) < 3:
            raise TrackerAway("the MLflow tracker http://host:5000 does not answer (Connection refused); start it")
        return recorder

    late = LateTracker(find, "demo")
    for seconds, taken in ((100.0, False), (110.0, False), (131.0, False)):
        clock[0] = seconds
        assert late.sync([]) is taken
    assert asked == [100.0, 131.0]
    assert late.problem == (
        "the MLflow tracker http://host:5000 does not answer (Connection refused); training is not affected, and "
        "`ehrfusion track sync demo` writes everything later"
    )
    assert late.finish([], status="FINISHED", files=[])
    assert (recorder.told, late.problem) == (["FINISHED"], None)
    assert late.sync([])
    assert len(asked) == 3


def test_a_search_without_its_tracker_completes_and_is_written_later_and_once(
    small_folder: Path, tmp_path: Path
) -> None:
    """1 fault, for good: 2 of 2 trials are complete, the result says so; then each is one run, written once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{probe.getsockname()[1]}"
    training = {"epochs": 1, "batch_size": 32}
    parts: dict[str, Any] = {"training": training, "search": {"trials": 2, "workers": 1}}
    result = run_search(study(small_folder, tmp_path, "away", tracking={"uri": away}, **parts), live=False)
    assert result.complete
    assert result.counts["complete"] == 2
    assert result.render().splitlines()[-1] == result.problem
    assert result.problem == (
        f"the MLflow tracker {away} does not answer (Connection refused); training is not affected, and "
        "`ehrfusion track sync away` writes everything later"
    )
    with pytest.raises(UsageError, match="does not answer"):
        sync_study(study(small_folder, tmp_path, "away", tracking={"uri": away}, **parts))
    back = study(small_folder, tmp_path, "away", tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"}, **parts)
    for _ in range(2):
        assert sync_study(back).startswith("away: 2 trials are in sqlite:///")
    connection = connect(back.tracking.uri, back.runs)
    [parent] = find_runs(connection, "ehrfusion.kind", "study")
    runs = find_runs(connection, "ehrfusion.kind", "trial")
    assert [run.info.status for run in (parent, *runs)] == ["FINISHED"] * 3
    for run in runs:
        points = connection.client.get_metric_history(run.info.run_id, "epoch/score")
        assert [each.step for each in points] == [1]


def begin(folder: str, place: int, ready: Any) -> None:
    """Be one of several drivers that meet a tracking database which does not exist yet."""
    ready.wait(120)
    connection = connect(f"sqlite:///{folder}/mlflow.db", Path(folder))
    tracker = StudyTracker(connection, f"key-{place}", "cold")
    assert tracker.finish([]), tracker.problem


def test_four_drivers_may_meet_a_database_that_is_new(tmp_path: Path) -> None:
    """4 cold starts at once, 0 of which crash."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.tracking.project"])
    ready = context.Barrier(4)
    drivers = [context.Process(target=begin, args=(str(tmp_path), place, ready)) for place in range(4)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(180)
    assert [driver.exitcode for driver in drivers] == [0] * 4
    found = find_runs(connect(f"sqlite:///{tmp_path}/mlflow.db", tmp_path), "ehrfusion.kind", "study")
    assert len(found) == 4
