"""Jobs side by side: results in order, one failure does not spread, a killer is found."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from experiments.jobs import JobFailure, default_workers, run_jobs


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


def test_default_workers_is_one_or_two() -> None:
    assert default_workers() in (1, 2)


@pytest.mark.parametrize("workers", [1])
def test_nothing_to_do(workers: int) -> None:
    assert run_jobs(job, [], workers, "nothing", progress=False) == []
