"""`ehrfusion worker` from one place and then another: PostgreSQL, checkpoints at a URL, MLflow, no driver."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fsspec.implementations.memory import MemoryFileSystem
from optuna.trial import TrialState
from toy_mlflow import TrackingServer
from toy_postgres import Server
from toy_search import study

from experiments.cli import main
from experiments.loop import Run
from experiments.tracking.runs import connect, find_runs
from search.study import StudySpec, open_study


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://bucket"
    MemoryFileSystem.store.clear()


def test_a_worker_hands_back_and_another_elsewhere_goes_on(
    small_folder: Path,
    tmp_path: Path,
    server: Server,
    tracking_server: TrackingServer,
    memory: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1 SIGTERM in the first of 2 trials: 0 lost, 0 epochs trained twice, 3 attempts as 3 MLflow runs, none RUNNING."""
    trained: list[tuple[Any, int]] = []
    save = Run.save

    def saved(run: Run, path: Any) -> None:
        save(run, path)
        trained.append((path, run.state.epoch))
        if len(trained) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Run, "save", saved)
    search = {"trials": 2, "pruner": "none"}
    tracking = {"uri": tracking_server.url, "experiment": "workers"}
    config = study(small_folder, tmp_path / "first", "apart", search=search, tracking=tracking)
    file = tmp_path / "apart.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def command(place: str, *more: str) -> str:
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        shared = [f"search.storage={server.url}"] if more else ["--storage", server.url, "--checkpoints", memory]
        arguments = [*more] or ["worker", "--study"]
        assert main([*arguments, str(file), *shared, "--runs", "mine"]) == 0
        return " ".join(capsys.readouterr().out.split())

    assert command("here").startswith("apart: asked to end; what it had begun is handed back (2 waiting)")
    assert command("here", "search", "--status").endswith("no trial runs at present; to go on: ehrfusion search apart")
    assert command("there") == "apart: nothing is left to do here (2 complete)"
    assert "2 of 2 trials" in command("elsewhere", "search", "--status")
    places = [f"{memory}/apart/{root}.safetensors" for root in (0, 1)]
    assert sorted(trained) == [(place, epoch) for place in places for epoch in (1, 2)]
    assert MemoryFileSystem.store == {}, "checkpoints of finished trials are removed"
    trials = open_study(StudySpec("apart", server.url, "maximize", seed=4, trials=2)).get_trials()
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]

    assert "3 trials are in" in command("there", "track", "sync")
    connection = connect(tracking_server.url, tmp_path, experiment="workers")
    runs = find_runs(connection, "ehrfusion.kind", "trial")
    assert sorted(run.info.status for run in runs) == ["FINISHED", "FINISHED", "KILLED"]
    [parent] = find_runs(connection, "ehrfusion.kind", "study")
    assert parent.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            {"seconds": 9.0},
            "search.seconds is a clock that `ehrfusion search` keeps; for workers give trials, epochs or",
        ),
        ({"trials": 2, "pruner": "pausing"}, "`ehrfusion search` decides who goes on after a pause; for workers take"),
        ({"trials": 2, "checkpoints": "nothing://bucket"}, "the checkpoints at nothing://bucket cannot be reached"),
    ],
)
def test_what_no_worker_can_decide_alone_is_one_line(
    small_folder: Path, tmp_path: Path, search: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = study(small_folder, tmp_path, "refused", search=search)
    file = tmp_path / "refused.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    assert main(["worker", "--study", str(file)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ehrfusion: {said}")
