"""A PostgreSQL server of its own for a test, started and stopped at will; skips with the reason where there is none."""

from __future__ import annotations

import gc
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USER = "postgres"


class Server:
    """A cluster in a folder, on a port of this host."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs = folder, programs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to be run by root."""
        options: dict[str, Any] = {"user": USER} if os.getuid() == 0 else {}
        command = [str(self.programs / program), *arguments]
        log = self.folder / "log"
        with log.open("ab") as file:
            done = subprocess.run(command, stdout=file, stderr=file, timeout=120, cwd=self.folder, **options)
        assert done.returncode == 0, log.read_text(encoding="utf-8")[-2000:]

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self._control("-l", str(self.folder / "server"), "-o", settings, "start")

    def stop(self) -> None:
        """Stop it as an administrator does: connections are cut."""
        self._control("-m", "fast", "stop")

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-w", "-D", str(self.folder / "data"), *arguments)


@pytest.fixture
def server() -> Iterator[Server]:
    """A fresh server that runs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "/nowhere")]
    if not found[-1].exists():
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'ehrfusion[postgres]')")
    folder = Path(tempfile.mkdtemp(prefix="ehrfusion-postgres-"))
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    made = Server(folder, found[-1].parent)
    try:
        made.run("initdb", "-D", str(folder / "data"), "-U", USER, "--auth=trust", "--no-sync")
        made.start()
        yield made
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # studies that were opened hold connections, which psycopg wants closed
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            made.stop()
        shutil.rmtree(folder)
