"""An empty tracking database, and trials to be tracked."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from experiments.tracking.project import StudyTracker
from experiments.tracking.runs import Connection, connect, find_runs

ARCHITECTURE = {"encoders": {"codes": {"name": "gru", "layers": 2}}, "fusion": {"name": "late"}, "dim": 32}
START = datetime(2026, 1, 1, 12, 0, 0)
DISTRIBUTIONS = {
    "fusion": CategoricalDistribution(["early", "late"]),
    "training.lr": FloatDistribution(1e-4, 1e-2),
}


@pytest.fixture(scope="session")
def empty_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose tracking database is initialised (this takes seconds), copied by each test."""
    runs = tmp_path_factory.mktemp("tracking") / "runs"
    connect(f"sqlite:///{runs}/mlflow.db", runs, experiment="warm")
    return runs


@pytest.fixture
def runs(empty_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(empty_runs, tmp_path / "runs"))


@pytest.fixture
def connection(runs: Path) -> Connection:
    return connect(None, runs)


def trial(number: int, epochs: int = 0, state: TrialState = TrialState.RUNNING, **attributes: Any) -> FrozenTrial:
    history = [{"epoch": i + 1, "score": 0.6 + i / 100, "train_loss": 1.0, "seconds": 2.0} for i in range(epochs)]
    noted = {
        "architecture": ARCHITECTURE,
        "root": number,
        "attempt": 0,
        "seed": 7,
        "history": history,
        **attributes,
    }
    made = create_trial(
        state=state,
        value=0.75 + number / 100 if state is TrialState.COMPLETE else None,
        params={"fusion": "late", "training.lr": 1e-3},
        distributions=DISTRIBUTIONS,
        user_attrs=noted,
    )
    made.number, made._trial_id = number, number + 100
    made.datetime_start = START + timedelta(minutes=number)
    made.datetime_complete = START + timedelta(minutes=number + 1) if state.is_finished() else None
    return made


def tracker(connection: Connection, **options: Any) -> StudyTracker:
    tags = {"data_fingerprint": "d1", "split_fingerprint": "s1", "git_commit": "abc123+changes"}
    return StudyTracker(connection, "key-1/demo", "demo", tags=tags, **options)


def children(connection: Connection, study: StudyTracker) -> dict[str, Any]:
    assert study.run_id is not None
    found = find_runs(connection, "mlflow.parentRunId", study.run_id)
    return {run.data.tags["ehrfusion.trial_key"]: run for run in found}


def history(connection: Connection, run: Any, key: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in connection.client.get_metric_history(run.info.run_id, key)]
