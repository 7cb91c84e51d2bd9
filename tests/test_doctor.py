"""The doctor tells what is wrong and what to do, within seconds, and changes nothing."""

from __future__ import annotations

import io
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from experiments import doctor
from experiments.doctor import diagnose, failed, filesystem_check, names_check, pair_check, render
from experiments.services import Check, _answer, storage_check, studies_check, tracking_check
from experiments.tracking.runs import connect

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
OURS = Path(doctor.__file__).resolve().parents[1]
HOMES: dict[str, Path | None] = dict.fromkeys(("fusion", "encoders", "search", "experiments"), OURS)


def make_study(path: Path, journal: str = "wal") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("CREATE TABLE studies (study_id INTEGER)")
    connection.execute("INSERT INTO studies VALUES (1)")
    connection.commit()
    connection.close()


def test_everything_is_looked_at_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = diagnose(tmp_path / "runs")
    names = [check.name for check in checks]
    assert names == [
        "python",
        "packages",
        "package names",
        "torchvision",
        "devices",
        "disk",
        "file system",
        "tracking",
        "study storage",
    ]
    assert not failed([check for check in checks if check.name not in ("package names", "disk")])
    assert not (tmp_path / "runs").exists()
    from rich.console import Console

    console = Console(file=io.StringIO(), width=140)
    console.print(render(checks))
    assert "CPU cores" in console.file.getvalue()  # type: ignore[attr-defined]


def test_one_failure_is_a_failure() -> None:
    assert failed([Check("a", "ok", ""), Check("b", "fail", "")])
    assert not failed([Check("a", "ok", ""), Check("b", "warn", "")])


def test_another_distribution_with_our_names() -> None:
    assert names_check({"fusion": ["ehrfusion"]}, HOMES).status == "ok"
    check = names_check({"search": ["ehrfusion", "Search"], "fusion": ["ehrfusion"]}, HOMES)
    assert check.status == "fail"
    assert "'search' also belongs to Search; pip uninstall Search" in check.detail


def test_a_folder_that_shadows_a_package(tmp_path: Path) -> None:
    check = names_check({}, HOMES | {"encoders": tmp_path})
    assert check.status == "fail"
    assert f"'encoders' is imported from {tmp_path}" in check.detail


@pytest.mark.parametrize(
    ("torch", "torchvision", "wanted", "status"),
    [
        ("2.10.0+cpu", "0.25.0+cpu", "==2.10.0", "ok"),
        ("2.15.0", "0.29.2", ">=2.14.0", "ok"),
        ("2.11.0", "0.25.0", "==2.10.0", "warn"),
        ("2.10.0+cpu", "0.25.0+cu128", "==2.10.0", "warn"),
        ("2.10.0", "0.25.0", "", "ok"),
    ],
)
def test_whether_torch_and_torchvision_match(torch: str, torchvision: str, wanted: str, status: str) -> None:
    assert pair_check(torch, torchvision, wanted).status == status


def test_a_mismatch_says_what_is_needed() -> None:
    assert pair_check("2.11.0", "0.25.0", "==2.10.0").detail.endswith("this torchvision needs torch ==2.10.0")


def test_a_closed_tracker_fails_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.monotonic()
    check = tracking_check(f"http://127.0.0.1:{port}")
    assert (check.status, check.detail) == ("fail", f"http://127.0.0.1:{port}: Connection refused")
    assert time.monotonic() - start < 10


def test_a_tracker_that_answers(tmp_path: Path) -> None:
    uri = connect(f"sqlite:///{tmp_path}/mlflow.db", tmp_path).uri
    check = tracking_check(uri)
    assert (check.status, check.detail) == ("ok", f"{uri}: answers, 2 experiments")


def test_something_that_hangs_is_not_waited_for() -> None:
    def hang() -> str:
        time.sleep(5)
        return "late"

    start = time.monotonic()
    check = _answer("study storage", "somewhere", hang, 0.2)
    assert time.monotonic() - start < 2
    assert (check.status, check.detail) == ("fail", "somewhere: no answer within 0.2 s")


def test_studies_are_looked_at(tmp_path: Path) -> None:
    make_study(tmp_path / "one" / "study.db")
    assert studies_check(tmp_path).detail.startswith("1 in ")
    make_study(tmp_path / "two" / "study.db", journal="delete")
    check = studies_check(tmp_path)
    assert check.status == "warn"
    assert "journal mode 'delete' instead of 'wal'" in check.detail


def test_a_storage_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database" * 200, encoding="utf-8")
    check = storage_check(f"sqlite:///{tmp_path}/study.db")
    assert check.status == "fail"
    assert "file is not a database" in check.detail


def test_a_storage_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert storage_check(f"sqlite:///{tmp_path}/study.db").status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_not_shown() -> None:
    check = storage_check("postgresql+psycopg://me:secret@127.0.0.1:1/studies")
    assert check.status == "fail"
    assert "secret" not in check.detail


def test_a_network_file_system_is_doubtful(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n", encoding="utf-8")
    check = filesystem_check(tmp_path / "runs", mounts)
    assert check.status == "warn"
    assert "PostgreSQL" in check.detail
    mounts.write_text("/dev/a / ext4 rw 0 0\n", encoding="utf-8")
    assert filesystem_check(tmp_path / "runs", mounts).detail == "ext4"
