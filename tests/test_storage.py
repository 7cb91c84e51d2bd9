"""Storage: SQLite for many processes, heartbeats, addresses that do not answer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from sqlalchemy import exc
from toy_trials import (
    begin,
    spec,  # noqa: F401 - fixtures
    take,
)

from fusion.component import UsageError
from search.storage import open_storage, sqlite_url
from search.study import (
    StudySpec,
    open_study,
)

# the storage


def test_sqlite_is_in_wal_mode_and_waits(spec: StudySpec) -> None:
    storage = open_storage(spec.storage)
    with storage.engine.connect() as connection:
        answers = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "busy_timeout")]
    assert answers == ["wal", 60_000]
    assert (storage.heartbeat_interval, storage.grace_period) == (60, 240)


def test_a_heartbeat_that_fails_is_tried_again(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, pauses = [], []

    def record(self: RDBStorage, trial_id: int) -> None:
        calls.append(trial_id)
        if len(calls) == 1:
            raise exc.OperationalError("select 1", {}, Exception("server closed the connection"))
        if len(calls) == 2:
            raise optuna.exceptions.StorageInternalError("the database restarts")

    monkeypatch.setattr(RDBStorage, "record_heartbeat", record)
    monkeypatch.setattr("search.storage.time.sleep", pauses.append)
    open_storage(spec.storage).record_heartbeat(3)
    assert calls == [3, 3, 3]
    assert pauses == [1.0, 2.0]


def test_the_pauses_between_heartbeats_grow_to_half_a_minute(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def record(self: RDBStorage, trial_id: int) -> None:
        if len(pauses) < 8:
            raise optuna.exceptions.StorageInternalError("down")

    monkeypatch.setattr(RDBStorage, "record_heartbeat", record)
    monkeypatch.setattr("search.storage.time.sleep", pauses.append)
    open_storage(spec.storage).record_heartbeat(3)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def refused(url: str) -> str:
    with pytest.raises(UsageError) as caught:
        open_storage(url)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_storage_that_does_not_answer(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere" / "study.db"
    assert refused(f"sqlite:///{missing}") == f"study storage {missing}: the folder {missing.parent} does not exist"
    text = tmp_path / "notes.txt"
    text.write_text("this is no database, however long one looks at it " * 20, encoding="utf-8")
    assert refused(f"sqlite:///{text}").startswith(f"study storage sqlite:///{text} does not answer: ")
    assert "file is not a database" in refused(f"sqlite:///{text}")
    assert refused("what is this").startswith("study storage (not a database URL) does not answer: ")
    assert "does not answer" in refused("nosuchdatabase://host/studies")
    assert "does not answer" in refused("grpc://host:13000")  # Optuna's proxy has no heartbeat


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+nosuchdriver://ada:s3cret@db.example/studies",
        "postgresql+nosuchdriver://ada:s3%40cret@db.example/studies",
        "postgresql+nosuchdriver://db.example/studies?user=ada&password=s3cret",
        "postgresql+nosuchdriver://db.example/studies?password=x@s3cret",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    text = refused(url)
    assert text.startswith("study storage postgresql+nosuchdriver://db.example/studies does not answer: ")
    assert "cret" not in text
    assert "ada" not in text


def test_a_schema_of_another_optuna(spec: StudySpec) -> None:
    path = spec.storage.removeprefix("sqlite:///")
    open_storage(spec.storage)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
        database.execute("UPDATE version_info SET library_version = '0.9.0'")
    database.close()
    assert refused(spec.storage).startswith(f"study storage {spec.storage} does not answer: ")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "cifs"])
def test_sqlite_on_a_network_file_system_is_refused(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    path = spec.storage.removeprefix("sqlite:///")
    assert refused(spec.storage) == (
        f"study storage {path} is SQLite on {kind}, where its locks do not hold; use PostgreSQL"
    )
    mounts.append(SimpleNamespace(mountpoint=str(tmp_path / "local"), fstype="xfs"))
    open_storage(sqlite_url(tmp_path / "local" / "study.db"))  # the innermost mount counts


def test_two_storages_see_each_other_at_once(spec: StudySpec) -> None:
    one, two = begin(spec), open_study(spec)
    states: Sequence[str] = [trial.state.name for trial in two.get_trials()]
    assert states == ["WAITING"] * 4
    take(one, worker="w")
    assert [trial.state.name for trial in two.get_trials()] == ["RUNNING"] + ["WAITING"] * 3
