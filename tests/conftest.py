"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy_mlflow import tracking_server  # noqa: F401 - a fixture of the session
from toy_postgres import cluster, server  # noqa: F401 - fixtures, one server for the session

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes of two threads each run at half the speed of one thread


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of open data beside the project (or EHRFUSION_SHARED_DATA); skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EHRFUSION_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the open data are not here ({folder}); set EHRFUSION_SHARED_DATA")
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic data folder of 160 patients with all modalities; tests must not write into it."""
    from experiments.sources.synthetic import write_synthetic

    folder = tmp_path_factory.mktemp("small") / "data"
    write_synthetic(folder, patients=160, seed=3, recipe="mixed")
    return folder
