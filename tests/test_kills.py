"""Workers killed at random moments, with MLflow; benchmarks/kills.py does the same 200 times."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_kills import Counts, kill_workers

from experiments import supervise


def test_ten_kills_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 faults; 0 of 14 trials lost or doubled, the budget met exactly, one MLflow run an attempt, none RUNNING."""
    monkeypatch.setattr(supervise, "_UNSIGNED_SECONDS", 2.0)
    counts = kill_workers(tmp_path, trials=14, kills=10, workers=2, seed=1)
    assert counts == Counts(kills=10, trials=14, given_up=counts.given_up)
    assert counts.given_up <= 5  # each takes two kills
