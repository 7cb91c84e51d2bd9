"""One at a time among the processes of all hosts, by a lock of the study's database."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

_LONGEST_PAUSE = 2.0  # seconds between two looks whether a lock is free, of those who have waited for long


@contextmanager
def one_on_all_hosts(url: str, what: str) -> Iterator[None]:
    """Let one process at a time, of whatever host, do something; a process that dies lets go of it.

    Only PostgreSQL has such locks. SQLite serves one host, where files do for locks, so that nothing is waited for.
    Who waits asks again and again, each time in a transaction of its own: behind a pooler that lends connections by
    transaction, many who wait would otherwise hold all of them, and who has the lock could not go on.
    """
    if not url.startswith("postgresql"):
        yield
        return
    lock = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:what, 0))")
    engine, pause, dice = create_engine(url, poolclass=NullPool), 0.01, random.Random()  # not what training draws from
    with engine.connect() as connection:
        while not connection.execute(lock, {"what": f"ehrfusion {what}"}).scalar_one():
            connection.rollback()
            time.sleep(pause * dice.uniform(0.5, 1.5))  # so that not all ask at once
            pause = min(2 * pause, _LONGEST_PAUSE)
        yield
        connection.commit()  # which lets go of it
