"""Many processes that find the same trials without a sign of life: each trial is handed back once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from toy_trials import begin, spec, take  # noqa: F401 - fixtures

from search.pruning import root_of
from search.storage import sqlite_url
from search.study import StudySpec, open_study


def scan(url: str, ready: Any) -> None:
    """Do what every worker does before it takes a trial."""
    study = open_study(StudySpec("toy", url, "maximize", seed=1, sampler="random", pruner="none", trials=1))
    ready.wait(60)
    optuna.storages.fail_stale_trials(study)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_stale_trials_found_by_three_at_once_are_handed_back_once(tmp_path: Path, spec: StudySpec) -> None:
    """20 dead trials, 3 processes that look at once: 20 handed back, 0 twice."""
    url, count = sqlite_url(tmp_path / "stale.db"), 20
    study = begin(replace(spec, storage=url, trials=count))
    for _ in range(count):
        study._storage.record_heartbeat(take(study, worker="elsewhere")._trial_id)  # type: ignore[attr-defined]
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = ?", (str(datetime.now() - timedelta(days=2)),))
    database.close()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.study"])
    ready = context.Barrier(3)
    scanners = [context.Process(target=scan, args=(url, ready)) for _ in range(3)]
    for each in scanners:
        each.start()
    for each in scanners:
        each.join(120)
    assert [each.exitcode for each in scanners] == [0] * 3
    states = Counter(trial.state for trial in study.get_trials())
    assert states == {TrialState.FAIL: count, TrialState.WAITING: count}
    again = [root_of(trial) for trial in study.get_trials() if trial.state == TrialState.WAITING]
    assert sorted(again) == list(range(count))
