"""A small study that is really searched."""

from __future__ import annotations

import multiprocessing.forkserver
from pathlib import Path
from typing import Any

import pytest

from experiments.config import StudyConfig, parse_config
from experiments.searching import SearchResult, run_search

_PRELOADED: set[int | None] = set()  # the processes that fork workers and were started here


@pytest.fixture(scope="module", autouse=True)
def preloaded() -> None:
    """Have the process that forks the workers load torch and our code before it forks; one for the whole session."""
    server: Any = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]
    if server._forkserver_pid not in _PRELOADED or server._forkserver_pid is None:
        server._stop()
        server.set_forkserver_preload(["experiments.objective"])
        server.ensure_running()
        _PRELOADED.add(server._forkserver_pid)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searching") / "runs"


def study(small_folder: Path, runs: Path, name: str = "small", **parts: Any) -> StudyConfig:
    """Return a study of bags of codes and notes, two epochs a trial, without tracking."""
    data = {
        "name": name,
        "seed": 4,
        "runs": runs,
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 2, "batch_size": 32},
        "space": {
            "encoders": {"codes": "bag", "notes": ["bag", "none"]},
            "fusion": ["late", "early"],
            "dim": [8, 16],
            "training": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
        },
        "search": {"trials": 3, "workers": 2},
        "tracking": {"enabled": False},
        **parts,
    }
    config = parse_config(data)
    assert isinstance(config, StudyConfig)
    return config


@pytest.fixture(scope="module")
def first(small_folder: Path, runs: Path) -> SearchResult:
    return run_search(study(small_folder, runs), live=False)
