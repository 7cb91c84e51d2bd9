"""A PostgreSQL server of this session's own, started and stopped at will; skips with the reason where there is none."""

from __future__ import annotations

import gc
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

USER = "postgres"


class Server:
    """A cluster in a folder, on a port of this host."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self.programs, self.databases = folder, programs, 0
        self.port = free_port()
        self.url = self._url("postgres")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to be run by root."""
        options: dict[str, Any] = {"user": USER} if os.getuid() == 0 else {}
        command = [str(self.programs / program), *arguments]
        log = self.folder / "log"
        with log.open("ab") as file:
            done = subprocess.run(command, stdout=file, stderr=file, timeout=120, cwd=self.folder, **options)
        assert done.returncode == 0, log.read_text(encoding="utf-8")[-2000:]

    def start(self, connections: int = 100) -> None:
        """Start it and wait until it answers."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        settings += f" -c max_connections={connections}"
        self._control("-l", str(self.folder / "server"), "-o", settings, "start")

    def stop(self) -> None:
        """Stop it as an administrator does: connections are cut."""
        self._control("-m", "fast", "stop")

    @property
    def runs(self) -> bool:
        """Whether it was started and not stopped."""
        return (self.folder / "data" / "postmaster.pid").exists()

    def fresh(self) -> None:
        """Let `url` be that of a new and empty database."""
        self.databases += 1
        name = f"study{self.databases}"
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, name)
        self.url = self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def _control(self, *arguments: str) -> None:
        self.run("pg_ctl", "-w", "-D", str(self.folder / "data"), *arguments)


def free_port() -> int:
    """Return a port of this host that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)


def missing() -> str | None:
    """Say what is not installed, None where nothing is missing."""
    if not _programs().joinpath("initdb").exists():
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed (pip install 'ehrfusion[postgres]')"
    return None


@contextmanager
def postgres(connections: int = 100) -> Iterator[Server]:
    """Give a server that runs, and remove it in the end, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="ehrfusion-postgres-"))
    if os.getuid() == 0:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    made = Server(folder, _programs())
    try:
        made.run("initdb", "-D", str(folder / "data"), "-U", USER, "--auth=trust", "--no-sync")
        made.start(connections)
        yield made
    finally:
        if made.runs:
            made.stop()
        shutil.rmtree(folder)


@contextmanager
def pooler(server: Server, connections: int = 20) -> Iterator[str]:
    """Give the address of the server's database behind PgBouncer, which lends its few connections by transaction."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        pytest.skip("PgBouncer is not installed (apt-get install pgbouncer)")
    port, settings = free_port(), server.folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user={USER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = transaction\nmax_client_conn = 2000\n"
        f"default_pool_size = {connections}\nunix_socket_dir =\nlogfile = {server.folder / 'pgbouncer.log'}\n",
        encoding="utf-8",
    )
    settings.chmod(0o644)
    options: dict[str, Any] = {"user": USER} if os.getuid() == 0 else {}
    process = subprocess.Popen([program, "-q", str(settings)], stderr=subprocess.DEVNULL, **options)
    try:
        _wait_for(port)
        yield server.url.replace(f":{server.port}/", f":{port}/")
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Server]:
    """One server for the whole session; conftest.py has it, or every module would start its own."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    with postgres() as made:
        yield made


@pytest.fixture
def server(cluster: Server) -> Iterator[Server]:
    """A server that runs, with an empty database."""
    cluster.fresh()
    yield cluster
    gc.collect()  # a connection that a study left open is an error of the test that opened it, not of a later one
    if not cluster.runs:
        cluster.start()


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "/nowhere/x")]
    return found[-1].parent
