"""Jobs side by side: results in order, one failure does not spread, a killer is found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from experiments.jobs import JobFailure, run_jobs


def job(settings: dict[str, Any]) -> int:
    if settings.get("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if settings.get("fail"):
        raise ValueError("no such luck\nwith details")
    return int(settings["value"]) ** 2


def test_results_in_order_and_failures_apart() -> None:
    settings = [{"value": 2}, {"fail": True}, {"value": 3}, {"kill": True}, {"value": 4}]
    found = run_jobs(job, settings, 2, "squares", progress=False)
    assert found == [4, JobFailure("ValueError: no such luck"), 9, JobFailure("its process died"), 16]


def device(settings: dict[str, Any]) -> tuple[int, str | None]:
    time.sleep(0.2)  # so that no process takes all the jobs
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_processes_take_the_gpus_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.jobs.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    found = dict(run_jobs(device, [{}] * 4, 2, "devices", progress=False))  # type: ignore[arg-type]
    assert sorted(found.values()) == ["GPU-a", "GPU-b"]


@pytest.mark.parametrize("workers", [1])
def test_nothing_to_do(workers: int) -> None:
    assert run_jobs(job, [], workers, "nothing", progress=False) == []


def sleepy(settings: dict[str, Any]) -> None:
    Path(settings["pids"], str(os.getpid())).touch()
    time.sleep(120)


def test_processes_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    """1 kill: both processes of the pool are gone soon after."""
    text = f"from test_jobs import *; run_jobs(sleepy, [{{'pids': {str(tmp_path)!r}}}] * 2, 2, 'sleep', progress=False)"
    driver = subprocess.Popen([sys.executable, "-c", text], cwd=Path(__file__).parent)
    deadline = time.monotonic() + 60
    while len(pids := [int(each.name) for each in tmp_path.iterdir()]) < 2:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    while any(map(psutil.pid_exists, pids)):
        assert time.monotonic() < deadline, "they outlive their driver"
        time.sleep(0.1)
