"""A lock of the database: one at a time, and who waits holds none of the connections that a pooler lends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text
from toy_postgres import Server, pooler

from search.locking import one_on_all_hosts


def test_many_wait_behind_a_pooler_of_few_connections_one_at_a_time(server: Server) -> None:
    """6 processes' worth of threads share 2 connections: who has the lock needs the second for its work."""
    inside: list[int] = []
    most: list[int] = []

    def work(address: str, number: int) -> None:
        with one_on_all_hosts(address, "work"):
            inside.append(number)
            most.append(len(inside))
            with create_engine(address, poolclass=NullPool).connect() as connection:
                connection.execute(text("SELECT pg_sleep(0.02)"))
            inside.remove(number)

    with pooler(server, connections=2) as address:
        threads = [threading.Thread(target=work, args=(address, number), daemon=True) for number in range(6)]
        for each in threads:
            each.start()
        deadline = time.monotonic() + 60
        for each in threads:
            each.join(max(0.0, deadline - time.monotonic()))
        assert not any(each.is_alive() for each in threads), "they wait for each other"
    assert most == [1] * 6


def test_files_have_no_such_lock(tmp_path: Path) -> None:
    with one_on_all_hosts(f"sqlite:///{tmp_path}/study.db", "work"), one_on_all_hosts("sqlite://", "work"):
        assert not list(tmp_path.iterdir())
