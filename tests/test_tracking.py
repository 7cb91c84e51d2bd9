"""MLflow runs are a projection of a study's trials: complete, and written once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_tracking import (  # noqa: F401 - fixtures
    children,
    connection,
    empty_runs,
    history,
    runs,
    tracker,
    trial,
)

from experiments.tracking.runs import Connection, Point, connect, log

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


def done(number: int, epochs: int = 3, **attributes: Any) -> FrozenTrial:
    measured = {"seconds": 6.5, "parameters": 1234, "peak_memory_mb": 310.5, "best_epoch": 2}
    return trial(number, epochs, TrialState.COMPLETE, **measured, **attributes)


def test_a_trial_becomes_a_run_with_all_that_the_issue_lists(connection: Connection) -> None:
    study = tracker(connection)
    assert study.sync([done(0)])
    run = children(connection, study)["key-1/demo/0/0"]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "trial 0"
    assert run.data.params["training.lr"] == "0.001"
    assert run.data.params["architecture.encoders.codes.name"] == "gru"
    assert run.data.tags["data_fingerprint"] == "d1"
    assert run.data.tags["split_fingerprint"] == "s1"
    assert run.data.tags["git_commit"] == "abc123+changes"
    assert run.data.tags["mlflow.source.git.commit"] == "abc123"
    assert run.data.tags["state"] == "COMPLETE"
    wanted = {"score": 0.75, "seconds": 6.5, "parameters": 1234.0, "peak_memory_mb": 310.5, "best_epoch": 2.0}
    assert {key: run.data.metrics[key] for key in wanted} == wanted
    assert history(connection, run, "epoch/score") == [(1, 0.6), (2, 0.61), (3, 0.62)]
    artifacts = [each.path for each in connection.client.list_artifacts(run.info.run_id)]
    assert artifacts == ["architecture.json"]
    assert (run.info.end_time - run.info.start_time) == 60_000


def test_epochs_arrive_as_they_come_and_once(connection: Connection) -> None:
    study = tracker(connection)
    for epochs in (1, 2, 2, 3):
        assert study.sync([trial(0, epochs)])
    run = children(connection, study)["key-1/demo/0/0"]
    assert run.info.status == "RUNNING"
    assert [step for step, _ in history(connection, run, "epoch/score")] == [1, 2, 3]


def test_a_new_driver_goes_on_without_duplicate_points_or_runs(connection: Connection, runs: Path) -> None:
    first = tracker(connection)
    assert first.sync([done(0), trial(1, 2)])  # and then it is killed
    second = tracker(connect(None, runs))
    assert second.run_id == first.run_id
    assert second.sync([done(0), done(1, 4), trial(2, 1)])
    found = children(connection, second)
    assert sorted(found) == [f"key-1/demo/{i}/0" for i in range(3)]
    assert [step for step, _ in history(connection, found["key-1/demo/1/0"], "epoch/score")] == [1, 2, 3, 4]
    assert history(connection, found["key-1/demo/0/0"], "score") == [(3, 0.75)]
    parent = connection.client.get_run(second.run_id)
    assert history(connection, parent, "trials_finished") == [(1, 1.0), (2, 2.0)]


def test_a_crash_between_making_and_describing_a_run_is_healed(connection: Connection, runs: Path) -> None:
    study = tracker(connection)
    assert study._attempts is not None
    study._attempts._start(trial(0), "key-1/demo/0/0")
    again = tracker(connect(None, runs))
    assert again.sync([trial(0, 1)])
    found = children(connection, again)
    assert list(found) == ["key-1/demo/0/0"]
    assert found["key-1/demo/0/0"].data.params["fusion"] == "late"


def test_states_become_statuses_and_reasons(connection: Connection) -> None:
    study = tracker(connection)
    trials = [
        trial(0, 1, TrialState.PRUNED, pruned_by="halving"),
        trial(1, 0, TrialState.FAIL, failure="the loss is nan in epoch 1, step 4"),
        trial(2, 1, TrialState.FAIL, failure="interrupted: SIGTERM"),
        trial(3, 0, TrialState.WAITING),
    ]
    assert study.sync(trials)
    found = children(connection, study)
    assert [found[f"key-1/demo/{i}/0"].info.status for i in range(3)] == ["KILLED", "FAILED", "KILLED"]
    assert found["key-1/demo/0/0"].data.tags["pruned_by"] == "halving"
    assert found["key-1/demo/1/0"].data.tags["failure"] == "the loss is nan in epoch 1, step 4"
    assert len(found) == 3


def test_a_retried_trial_gets_its_own_run_and_the_old_one_is_superseded(connection: Connection) -> None:
    study = tracker(connection)
    dead = trial(0, 2, TrialState.FAIL, failure="its worker died")
    assert study.sync([dead, trial(1, 2, root=0, attempt=0)])  # born with a copy of the attributes
    assert list(children(connection, study)) == ["key-1/demo/0/0"]
    assert study.sync([dead, done(1, 3, root=0, attempt=1)])
    found = children(connection, study)
    old, new = found["key-1/demo/0/0"], found["key-1/demo/0/1"]
    assert (old.data.tags["ehrfusion.final"], new.data.tags["ehrfusion.final"]) == ("false", "true")
    assert old.data.tags["ehrfusion.superseded_by"] == new.info.run_id
    assert [step for step, _ in history(connection, new, "epoch/score")] == [1, 2, 3]


def test_runs_of_trials_the_storage_no_longer_knows_are_closed(connection: Connection, runs: Path) -> None:
    assert tracker(connection).sync([trial(0, 1), trial(1, 1)])
    again = tracker(connect(None, runs))
    assert again.sync([trial(0, 1)])
    found = children(connection, again)
    assert found["key-1/demo/0/0"].info.status == "RUNNING"
    assert found["key-1/demo/1/0"].info.status == "KILLED"
    assert found["key-1/demo/1/0"].data.tags["state"] == "LOST"


def test_nothing_measured_on_the_test_split_passes(connection: Connection) -> None:
    leak = [{"epoch": 1, "score": 0.5, "test_auroc": 0.9, "held_out_loss": 0.1, "seconds": 1.0}]
    study = tracker(connection)
    assert study.sync([trial(0, history=leak)])
    run = children(connection, study)["key-1/demo/0/0"]
    assert set(run.data.metrics) == {"epoch/score", "epoch/seconds"}


def test_the_parent_knows_the_best_trial_the_counts_and_the_configuration(
    connection: Connection, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>done</p>", encoding="utf-8")
    study = tracker(connection, params={"search": {"trials": 3}, "seed": 0}, config={"name": "demo", "runs": tmp_path})
    trials = [done(0), done(1), trial(2, 1, TrialState.FAIL, failure="x")]
    assert study.finish(trials, files=[report])
    assert study.run_id is not None
    parent = connection.client.get_run(study.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {
        "best_score": 0.76,
        "trials_complete": 2.0,
        "trials_pruned": 0.0,
        "trials_failed": 1.0,
        "trials_finished": 3.0,
    }
    assert parent.data.params == {"search.trials": "3", "seed": "0"}
    assert parent.data.tags["ehrfusion.best_run"] == children(connection, study)["key-1/demo/1/0"].info.run_id
    names = {each.path for each in connection.client.list_artifacts(study.run_id)}
    assert names == {"config.json", "report.html"}


def test_the_lowest_score_is_best_when_minimising(connection: Connection) -> None:
    study = tracker(connection, direction="minimize")
    assert study.sync([done(0), done(1)])
    assert study.run_id is not None
    assert connection.client.get_run(study.run_id).data.metrics["best_score"] == 0.75


def test_run_ids_are_handed_to_the_driver(connection: Connection) -> None:
    told: list[tuple[int, str, str]] = []
    study = tracker(connection, set_trial_attr=lambda *arguments: told.append(arguments))
    assert study.sync([trial(0, 1), trial(0, 1)])
    run = children(connection, study)["key-1/demo/0/0"]
    assert told == [(100, "mlflow.run_id", run.info.run_id)]


def test_numbers_that_are_none_and_long_texts(connection: Connection) -> None:
    run = connection.client.create_run(connection.experiment_id)
    points = [Point("loss", float("nan"), 1), Point("auroc (95%)", 0.5, 1), Point("top", float("inf"), 1)]
    params = {f"p{i}": i for i in range(150)} | {"long": "x" * 9000}
    log(connection, run.info.run_id, points=points, params=params, tags={"note": "y" * 9000})
    found = connection.client.get_run(run.info.run_id).data
    assert found.metrics == {"auroc _95__": 0.5}
    assert found.tags["ehrfusion.skipped_metrics"] == "loss, top"
    assert len(found.params) == 151
    assert len(found.params["long"]) == 6000
    assert len(found.tags["note"]) == 8000
