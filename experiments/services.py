"""Whether the tracker and the study storages answer, within seconds and without changing them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.tracking.address import sqlite_path
from fusion.component import masked

SECONDS = 5.0
IMPORT_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `fail` means that something will not work."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str


def tracking_check(uri: str) -> Check:
    """Check that the tracker answers."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        return Check("tracking", "ok", f"{masked(uri)} is not there yet; the first study makes it")

    def ask() -> str:
        from experiments.tracking.runs import probe

        return probe(uri)

    return _answer("tracking", masked(uri), ask, SECONDS + 10.0)  # importing mlflow takes seconds of its own


def storage_check(url: str) -> Check:
    """Check that a study storage answers."""
    path = sqlite_path(url)
    if path is not None:
        if not path.exists():
            return Check("study storage", "ok", f"{url} is not there yet; the first search makes it")
        return _answer("study storage", url, lambda: _sqlite(path), SECONDS)
    return _answer("study storage", masked(url), lambda: _database(url), SECONDS)


def studies_check(runs: Path) -> Check:
    """Check the storages of the studies in the runs folder."""
    found = sorted(path for path in runs.glob("*/*.db") if path.is_file())
    checks = [storage_check(f"sqlite:///{path.resolve().as_posix()}") for path in found]
    wrong = [check for check in checks if check.status != "ok"]
    if wrong:
        return wrong[0]
    return Check("study storage", "ok", f"{len(found)} in {runs}; SQLite {sqlite3.sqlite_version}")


def _sqlite(path: Path) -> str:
    with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=SECONDS) as connection:
        mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        studies = connection.execute("SELECT count(*) FROM studies").fetchone()[0]
    connection.close()
    if mode != "wal":
        raise _Doubtful(f"journal mode '{mode}' instead of 'wal': parallel workers may claim one trial twice")
    return f"{studies} studies, write-ahead log"


def _database(url: str) -> str:
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"needs the package {error.name}; pip install 'ehrfusion[postgres]'") from None
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT 1"))
    engine.dispose()
    return "answers"


class _Doubtful(Exception):
    """Something works but not as it should."""


def _answer(name: str, shown: str, ask: Callable[[], str], seconds: float) -> Check:
    """Ask in a thread, and wait no longer than some seconds."""
    found: list[Check] = []

    def run() -> None:
        try:
            found.append(Check(name, "ok", f"{shown}: {ask()}"))
        except _Doubtful as doubt:
            found.append(Check(name, "warn", f"{shown}: {doubt}"))
        except Exception as error:  # each client library raises its own kinds
            text = masked(" ".join(str(error).split()))[:200] or type(error).__name__
            found.append(Check(name, "fail", f"{shown}: {text}"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else Check(name, "fail", f"{shown}: no answer within {seconds:g} s")
