"""An MLflow tracking server of this session's own, over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_postgres import free_port

_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class TrackingServer:
    """`mlflow server` on a port of this host, with SQLite and its artifacts in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        # it starts uvicorn by that name
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        log = self.folder / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, **_QUIET, "PATH": path}, start_new_session=True
            )
        deadline = time.monotonic() + 900  # seconds on a free core, minutes where others have the cores
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(log.read_text(encoding="utf-8")[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and the processes it started, at once: requests on the way are cut."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture(scope="session")
def tracking_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """One server for the whole session; conftest.py has it. A test that stops it starts it again."""
    made = TrackingServer(tmp_path_factory.mktemp("tracking-server"))
    try:
        made.start()
        yield made
    finally:
        made.stop()
