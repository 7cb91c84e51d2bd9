"""Small patients, and runs that are compared number by number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from experiments.config import TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture, Spec

PREPROCESS = {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}
ARCHITECTURE = Architecture({"codes": Spec("bag"), "notes": Spec("bag", {"dropout": 0.3})}, Spec("late"), 8)


@pytest.fixture(scope="module")
def folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a label of every kind, all of them about the outcome."""
    found = Path(shutil.copytree(small_folder, tmp_path_factory.mktemp("train") / "data"))
    table = pl.read_parquet(found / "labels" / "outcome.parquet")
    keys, outcome = table.select("subject_id", "prediction_time"), table["boolean_value"].to_numpy()
    rng = np.random.default_rng(0)
    stage = outcome.astype(int) + (rng.random(len(outcome)) < 0.3)
    days = 5.0 + 90 * outcome + rng.normal(0, 5, len(outcome))
    keys.with_columns(integer_value=pl.Series(stage)).write_parquet(found / "labels" / "stage.parquet")
    keys.with_columns(float_value=pl.Series(days)).write_parquet(found / "labels" / "days.parquet")
    (found / "labels" / "findings").mkdir()
    for name, flip in (("first", 0.1), ("second", 0.3)):
        value = pl.Series(outcome ^ (rng.random(len(outcome)) < flip))
        keys.with_columns(boolean_value=value).write_parquet(found / "labels" / "findings" / f"{name}.parquet")
    return found


def open_labels(folder: Path, labels: str) -> Store:
    data = {"folder": folder, "labels": labels, "preprocess": PREPROCESS}
    model = {"encoders": {"codes": "bag"}}
    return open_store(parse_config({"name": "t", "runs": folder.parent, "data": data, "model": model}))


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    return open_labels(folder, "outcome")


def run(store: Store, architecture: Architecture = ARCHITECTURE, seed: int = 1, **options: Any) -> Fit:
    """Train for four epochs, unless told otherwise; keys of `options` that are no settings are passed on."""
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 32, "warmup_steps": 5, "patience": 50, "lr": 1e-2}
    for name in [name for name in options if name in TrainingConfig.model_fields]:
        settings[name] = options.pop(name)
    return train(architecture, store, TrainingConfig(**settings), seed, preprocess=PREPROCESS, **options)


def numbers(fit: Fit) -> list[dict[str, float]]:
    """What the epochs gave, without how long they took."""
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in fit.history]
