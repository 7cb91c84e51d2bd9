"""Patients with known scores, and comparisons of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison import Comparison, compare_predictions
from experiments.config import Config, parse_config
from fusion import Task

Floats = NDArray[np.float64]
BINARY = Task("binary")
KINDS = {"late": "fusion", "early": "fusion", "codes": "modality", "notes": "modality"}


def patients(count: int = 300, seed: int = 0) -> tuple[Floats, Floats]:
    """Return outcomes and the risk behind them."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=count)
    return (rng.random(count) < 1 / (1 + np.exp(-2 * hidden))).astype(float), hidden


def noisy(hidden: Floats, noise: float, seeds: Sequence[int] = (0, 1, 2)) -> list[Floats]:
    """Return one prediction a seed: the risk, seen through noise."""
    draws = [np.random.default_rng([9, seed]).normal(size=len(hidden)) for seed in seeds]
    return [1 / (1 + np.exp(-(hidden + noise * draw))) for draw in draws]


def tiny_config(folder: Path, encoders: Mapping[str, str], fusion: str, **compare: Any) -> Config:
    """Return an experiment of one epoch on a few synthetic patients."""
    return parse_config(
        {
            "name": "tiny",
            "runs": str(folder / "runs"),
            "data": {"folder": str(folder / "data"), "synthetic": {"patients": 120}},
            "training": {"epochs": 1},
            "compare": {"seeds": 2, "folds": 1, "resamples": 100, **compare},
            "tracking": {"enabled": False},
            "model": {"encoders": dict(encoders), "fusion": fusion, "dim": 8},
        }
    )


def planted(resamples: int = 300, **options: Any) -> Comparison:
    target, hidden = patients()
    predictions = {
        name: noisy(hidden, noise) for name, noise in {"late": 0.2, "early": 0.25, "codes": 2.0, "notes": 4.0}.items()
    }
    return compare_predictions(BINARY, target, np.arange(300), predictions, KINDS, resamples=resamples, **options)


def here(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
    """Run jobs in this process instead of a pool."""
    return [function(each) for each in settings]
