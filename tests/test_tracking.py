"""MLflow runs are a projection of a study's trials: complete, written once, and never in training's way."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from experiments.tracking.address import redacted, resolve_uri, sqlite_path
from experiments.tracking.project import StudyTracker
from experiments.tracking.runs import Connection, Point, connect, find_runs, flatten, log, log_comparison
from fusion.component import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

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


def done(number: int, epochs: int = 3, **attributes: Any) -> FrozenTrial:
    measured = {"seconds": 6.5, "parameters": 1234, "peak_memory_mb": 310.5, "best_epoch": 2}
    return trial(number, epochs, TrialState.COMPLETE, **measured, **attributes)


def tracker(connection: Connection, **options: Any) -> StudyTracker:
    tags = {"data_fingerprint": "d1", "split_fingerprint": "s1", "git_commit": "abc123+changes"}
    return StudyTracker(connection, "key-1/demo", "demo", tags=tags, **options)


def children(connection: Connection, study: StudyTracker) -> dict[str, Any]:
    assert study.run_id is not None
    found = find_runs(connection, "mlflow.parentRunId", study.run_id)
    return {run.data.tags["ehrfusion.trial_key"]: run for run in found}


def history(connection: Connection, run: Any, key: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in connection.client.get_metric_history(run.info.run_id, key)]


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


def test_a_trial_mlflow_refuses_does_not_hold_up_the_others(connection: Connection) -> None:
    study = tracker(connection)
    assert study.sync([trial(0, 1)])
    connection.client.delete_run(children(connection, study)["key-1/demo/0/0"].info.run_id)
    assert not study.sync([trial(0, 2), trial(1, 1)])
    assert "key-1/demo/1/0" in children(connection, study)
    assert study.problem is not None


def test_a_tracker_that_goes_away_costs_little_and_loses_nothing(
    connection: Connection, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tracker(connection, pause_seconds=0.2)
    assert study.sync([trial(0, 1)])

    calls = []

    def refuse(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        raise ConnectionError("connection refused")

    with monkeypatch.context() as away:
        away.setattr(type(connection.client), "log_batch", refuse)
        assert not study.sync([trial(0, 2)])
        assert not study.sync([trial(0, 2)])
    assert len(calls) == 1  # left alone for a while
    assert study.problem is not None
    assert "connection refused" in study.problem
    assert "`ehrfusion track sync demo` writes the rest" in study.problem
    time.sleep(0.25)
    assert study.sync([trial(0, 3)])
    assert study.problem is None
    run = children(connection, study)["key-1/demo/0/0"]
    assert [step for step, _ in history(connection, run, "epoch/score")] == [1, 2, 3]


def test_a_closed_port_is_one_line_within_seconds(runs: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"tracker http://127.0.0.1:\d+ does not answer \(Connection refused\)"):
        connect(f"http://127.0.0.1:{port}", runs)
    assert time.monotonic() - start < 5


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_is_one_line_within_seconds(
    runs: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # 5 unless the user says otherwise
    start = time.monotonic()
    with pytest.raises(UsageError, match="does not answer") as caught:
        connect(silent_server, runs)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 4


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_text("not a database, but long enough to be looked at" * 50, encoding="utf-8")
    with pytest.raises(UsageError, match=r"does not answer .*file is not a database") as caught:
        connect(f"sqlite:///{tmp_path}/broken.db", tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_kind_of_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected an address like http://host:5000 or sqlite:///file\.db; got 'ftp"):
        connect("ftp://somewhere", tmp_path)


def test_a_deleted_experiment_says_how_to_get_it_back(connection: Connection, runs: Path) -> None:
    connection.client.delete_experiment(connection.experiment_id)
    with pytest.raises(UsageError, match=r"experiment 'ehrfusion' was deleted in .* restore it"):
        connect(None, runs)


def test_where_the_tracker_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert resolve_uri(None, tmp_path) == "http://host:5000"
    assert resolve_uri("sqlite:////a/b.db", tmp_path) == "sqlite:////a/b.db"
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_path("http://host:5000") is None
    assert redacted("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def test_artifacts_stand_beside_the_database(connection: Connection, runs: Path) -> None:
    run = connection.client.create_run(connection.experiment_id)
    connection.client.log_text(run.info.run_id, "hello", "note.txt")
    assert [path.name for path in (runs / "artifacts").rglob("*.txt")] == ["note.txt"]


def test_a_comparison_is_a_run_with_its_numbers_and_files(connection: Connection, tmp_path: Path) -> None:
    table = tmp_path / "comparison.csv"
    table.write_text("strategy,auroc\nlate,0.8\n", encoding="utf-8")
    rows = [{"strategy": "late", "metric": "auroc", "value": 0.8, "low": 0.7, "significant": True}]
    run_id = log_comparison(connection, "demo fusion", rows, [table], params={"seeds": 3})
    run = connection.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"late/auroc/value": 0.8, "late/auroc/low": 0.7}
    assert run.data.params == {"seeds": "3"}
    assert {each.path for each in connection.client.list_artifacts(run_id)} == {
        "comparison.csv",
        "comparison.json",
    }


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": None}, "d": [1, 2]}) == {"a.b": 1, "d": [1, 2]}
