"""A full disk: under the study's storage, under a checkpoint. What was recorded stays, and the search goes on later."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState
from toy_search import study
from toy_trials import begin, constant, run, spec  # noqa: F401 - fixtures

from experiments import searching
from experiments.cli import main
from experiments.objective import make_objective
from experiments.searching import run_search
from experiments.studies import study_spec, worker_space
from fusion.component import UsageError
from search import storage as storage_module
from search.attempts import fail_lost
from search.pruning import root_of
from search.space import Candidate
from search.storage import STORAGE_ERRORS, storage_failed
from search.study import StudySpec, create_or_resume, issue_tickets, open_study, summary, worker_loop
from search.trial import TrialHandle


def test_a_disk_that_is_full_stops_the_search_and_loses_nothing(
    spec: StudySpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 fault: SQLite may not grow while the second of 3 trials runs; 0 trials lost or doubled after it may again."""
    spec = replace(spec, trials=3)
    begin(spec)
    with monkeypatch.context() as full:
        configure = storage_module._configure_sqlite

        def no_space(connection: Any, record: Any) -> None:
            configure(connection, record)
            [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
            connection.execute(f"PRAGMA max_page_count = {pages + 8}")

        full.setattr(storage_module, "_configure_sqlite", no_space)

        def wordy(candidate: Candidate, trial: TrialHandle) -> float:
            if trial.number == 1:
                trial.note(words="many words " * 10_000)
            return 0.5

        with pytest.raises(STORAGE_ERRORS) as caught:
            run(spec, wordy)
    assert storage_failed(spec.storage, caught.value) == (
        f"study storage {spec.storage} failed: database or disk is full; what was recorded is not lost: see to it, and "
        "the same command goes on where it was"
    )
    resumed = open_study(spec)
    assert [trial.state for trial in resumed.get_trials()] == [
        TrialState.COMPLETE,
        TrialState.RUNNING,
        TrialState.WAITING,
    ]
    assert fail_lost(resumed, lambda _: True) == 1
    run(spec, constant)
    trials = resumed.get_trials()
    assert summary(trials) == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    complete = [root_of(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(complete) == [0, 1, 2]


def test_a_storage_that_fails_is_one_line(small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, on_tick: Any, **__: Any) -> None:
        raise STORAGE_ERRORS[1]("an exception is raised during the commit")

    monkeypatch.setattr(searching, "supervise", fails)
    with pytest.raises(UsageError, match=r"^study storage sqlite:///.*study.db failed: .*goes on where it was$"):
        run_search(study(small_folder, tmp_path, "failing"), live=False)


def test_a_disk_that_is_full_while_records_are_prepared_is_one_line_and_leaves_nothing_half_written(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """1 fault: nothing is started, no file is left in the cache; with space, the same command trains."""
    config = study(small_folder, tmp_path, "prepared", search={"trials": 1, "pruner": "none"})
    file = tmp_path / "prepared.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "packed.safetensors")

    with monkeypatch.context() as no_space:
        no_space.setattr("experiments.data.pack.PackWriter.append", full)
        assert main(["worker", "--study", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "ehrfusion: the disk is full (packed.safetensors); make space, and the same command goes on"
    ]
    assert not (config.folder / "study.db").exists()
    assert list((tmp_path / "cache").rglob("*partial*")) == []
    assert main(["worker", "--study", str(file)]) == 0
    assert capsys.readouterr().out.strip() == "prepared: nothing is left to do here (1 complete)"


def test_a_checkpoint_that_cannot_be_written_fails_its_trial_only(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 fault in the second epoch of the first of 2 trials: it fails with the reason, the other is complete."""
    synced: list[int] = []
    sync = os.fsync

    def full(file: int) -> None:
        synced.append(file)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    config = study(small_folder, tmp_path, "full", search={"trials": 2, "pruner": "none"})
    settings, spec = config.model_dump(mode="json"), study_spec(config)
    created = create_or_resume(spec, {})
    issue_tickets(created, 2)
    monkeypatch.setattr("experiments.checkpoint.os.fsync", full)
    worker_loop(created, spec, worker_space(settings), make_objective(settings), "here", lambda: "")
    first, second = created.get_trials()
    assert (first.state, second.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert first.user_attrs["failure"] == "OSError: [Errno 28] No space left on device"
    assert len(first.user_attrs["history"]) == 1
    assert list((config.folder / "checkpoints").iterdir()) == []


def test_checkpoints_of_trials_that_are_over_are_swept_when_a_search_ends(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a killed worker left is removed, unless somebody may go on from it."""
    config = study(small_folder, tmp_path, "swept", search={"trials": 4})
    created = create_or_resume(study_spec(config), {})
    issue_tickets(created, 4)
    folder = config.folder / "checkpoints"
    folder.mkdir()

    def supervised(found: Any, *_: Any, on_tick: Any, **__: Any) -> str:
        reasons = ("its worker died twice", "interrupted", "longer than the 3 s a trial may take")
        for reason in reasons:
            number = found._pop_waiting_trial_id()
            (folder / f"{found._storage.get_trial(number).number}.safetensors").touch()
            found._storage.set_trial_user_attr(number, "failure", reason)
            found._storage.set_trial_state_values(number, TrialState.FAIL)
        (folder / "3.safetensors").touch()  # it waits
        return "interrupted"

    monkeypatch.setattr(searching, "supervise", supervised)
    run_search(config, live=False)
    assert sorted(path.name for path in folder.iterdir()) == ["1.safetensors", "3.safetensors"]
