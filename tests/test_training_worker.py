"""A worker that really trains and is told to end by its machine: another goes on from its checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from optuna.trial import TrialState
from toy_search import preloaded, study  # noqa: F401 - fixtures
from toy_study import until

from experiments.searching import run_search
from experiments.studies import study_spec
from search.storage import close_study
from search.study import open_study


def test_a_training_worker_hands_back_on_sigterm_and_another_goes_on(small_folder: Path, tmp_path: Path) -> None:
    """1 SIGTERM to the only worker of 1 trial: 0 lost, 0 epochs trained twice."""
    config = study(
        small_folder,
        tmp_path / "runs",
        training={"epochs": 40, "batch_size": 32},
        search={"trials": 1, "workers": 1, "pruner": "none"},
    )
    told: list[str] = []

    def tell() -> None:
        until(lambda: list(config.folder.glob("**/*.safetensors")), 120)
        watching = open_study(study_spec(config))
        (running,) = watching.get_trials(states=[TrialState.RUNNING])
        told.append(running.user_attrs["worker"])
        os.kill(int(told[0].split(":")[2].split("-")[0]), signal.SIGTERM)
        close_study(watching)

    machine = threading.Thread(target=tell)
    machine.start()
    result = run_search(config, live=False)
    machine.join()
    assert result.complete
    found = open_study(study_spec(config))
    first, second = found.get_trials()
    assert (first.state, first.user_attrs["failure"]) == (TrialState.FAIL, "interrupted")
    assert (second.state, second.user_attrs["crashes"]) == (TrialState.COMPLETE, 0)
    assert first.user_attrs["worker"] == told[0] != second.user_attrs["worker"]
    before, after = first.user_attrs["history"], second.user_attrs["history"]
    assert 0 < len(before) < len(after)
    assert after[: len(before)] == before, "an epoch that was trained again would have taken other seconds"
    assert [each["epoch"] for each in after] == list(range(1, len(after) + 1))
