"""Stores of small patients and what is in them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from encoders import ENCODERS
from encoders.preprocessor import Preparation, preparation
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.store import Store
from experiments.data_config import DataConfig
from fusion import Spec

ENCODER = {"codes": "bag", "notes": "bag", "images": "conv", "graph": "ancestors"}


def plan(modality: str, **options: Any) -> Preparation:
    return preparation(ENCODERS[modality], modality, Spec(ENCODER[modality]), options)


PLANS = [plan(modality) for modality in ENCODER]


def open_at(folder: Path, cache: Path, **options: Any) -> Store:
    config = DataConfig(folder=folder, **options)
    dataset = open_dataset(folder)
    return Store(dataset, load_cohort(dataset, config), config, cache)


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small folder to write into."""
    return Path(shutil.copytree(small_folder, tmp_path / "data"))


@pytest.fixture(scope="module")
def store(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small folder, prepared for every modality."""
    found = open_at(small_folder, tmp_path_factory.mktemp("store"))
    found.prepare(PLANS)
    return found


def left(cache: Path) -> set[str]:
    """What lies in a cache besides remembered fingerprints, by modality."""
    return {path.name.split("-")[0] for path in cache.iterdir() if not path.name.startswith("fingerprint-")}
