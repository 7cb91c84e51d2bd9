"""One at a time among the processes of all hosts, by a lock of the study's database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


@contextmanager
def one_on_all_hosts(url: str, what: str) -> Iterator[None]:
    """Let one process at a time, of whatever host, do something; a process that dies lets go of it.

    Only PostgreSQL has such locks. SQLite serves one host, where files do for locks, so that nothing is waited for.
    """
    if not url.startswith("postgresql"):
        yield
        return
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
        connection.execute(lock, {"what": f"ehrfusion {what}"})
        yield
