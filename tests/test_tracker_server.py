"""A real MLflow server that goes away in the middle of a study: nothing waits for it, and nothing is written twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from optuna.trial import TrialState
from toy_mlflow import TrackingServer
from toy_tracking import children, history, tracker, trial

from experiments.tracking.runs import connect


def test_a_server_that_is_away_for_a_while_gets_everything_once(
    tmp_path: Path, tracking_server: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 fault: killed after 1 epoch of 1 of 2 trials, back after 5 syncs: 0 points lost, 0 doubled, 0 runs RUNNING."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    connection = connect(tracking_server.url, tmp_path, experiment="away")
    study = tracker(connection, pause_seconds=0.05)
    assert study.sync([trial(0, 1)])
    tracking_server.stop()
    try:
        for epochs in range(2, 7):
            assert not study.sync([trial(0, epochs)])
            time.sleep(0.06 * epochs)  # it is left alone for longer and longer
        assert study.problem is not None
        assert study.problem.startswith(f"the MLflow tracker {tracking_server.url} did not take everything (")
        assert not study.finish([trial(0, 6, TrialState.COMPLETE), trial(1, 3, TrialState.COMPLETE)])
        assert "`ehrfusion track sync demo` writes the rest" in study.problem
    finally:
        tracking_server.start()
    for writer in (study, tracker(connection)):  # the same process, and `track sync` in another
        assert writer.finish([trial(0, 6, TrialState.COMPLETE), trial(1, 3, TrialState.COMPLETE)]), writer.problem
    runs = children(connection, study)
    assert {key: run.info.status for key, run in runs.items()} == dict.fromkeys(
        ["key-1/demo/0/0", "key-1/demo/1/0"], "FINISHED"
    )
    for key, epochs in (("key-1/demo/0/0", 6), ("key-1/demo/1/0", 3)):
        assert [step for step, _ in history(connection, runs[key], "epoch/score")] == list(range(1, epochs + 1))
