"""A tracker that refuses, goes away or was never there; addresses; comparisons."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_tracking import (  # noqa: F401 - fixtures
    children,
    connection,
    empty_runs,
    history,
    runs,
    tracker,
    trial,
)

from experiments.tracking.address import resolve_uri, sqlite_path
from experiments.tracking.runs import Connection, connect, flatten, log_comparison
from fusion.component import UsageError, masked


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
    assert masked("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


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
