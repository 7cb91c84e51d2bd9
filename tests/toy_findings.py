"""Findings without training: strategies whose risks are known, with files as runs leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.comparison import compare_predictions
from experiments.config import parse_config
from experiments.held_out import HeldOut
from experiments.metrics import default_metric
from experiments.sections import Findings
from fusion import Task

Array = NDArray[Any]


def expit(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def risks(count: int, seed: int = 0, spread: float = 1.5) -> tuple[Array, Array]:
    """Return outcomes and the log odds that they were drawn with, so their risks are perfectly calibrated."""
    rng = np.random.default_rng([5, seed])
    x = rng.normal(-1, spread, count)
    return (rng.random(count) < expit(x)).astype(np.float32), x


def findings(
    folder: Path,
    task: Task,
    target: Array,
    predictions: Mapping[str, Sequence[Array]],
    kinds: Mapping[str, str],
    *,
    folds: int = 1,
    resamples: int = 200,
    compared: Any = None,
) -> Findings:
    """Return findings in which row `i` is held out where `i` is even, by fold `i // 2 % folds`, and else tunes.

    Shape:
        target (N,) or (N, K); predictions (N,) or (N, K), one a seed.
    """
    rows = np.arange(0, len(target), 2)
    fold = rows // 2 % folds
    odd = np.arange(1, len(target), 2)
    tuning = tuple(odd[odd // 2 % folds == each] for each in range(folds))
    files: dict[str, list[list[Path]]] = {}
    for name, seeds in predictions.items():
        files[name] = []
        for seed, each in enumerate(seeds):
            wide = each if each.ndim == 2 else each[:, None]
            files[name].append([folder / f"{name}-{seed}-{place}.npz" for place in range(folds)])
            for place, path in enumerate(files[name][-1]):
                np.savez(path, predictions=wide[rows[fold == place]], tuning_predictions=wide[tuning[place]])
    held = {name: [each[rows] for each in seeds] for name, seeds in predictions.items()}
    people = np.arange(len(target)) + 1000
    config = parse_config(
        {
            "name": "toy",
            "data": {"folder": "nowhere"},
            "compare": {"resamples": resamples},
            "model": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": "early", "dim": 8},
        }
    )
    comparison = compared or compare_predictions(
        task, target[rows], people[rows], held, kinds, fold=fold, metric=default_metric(task.kind), resamples=resamples
    )
    store: Any = SimpleNamespace(task=task, cohort=SimpleNamespace(targets=target, subject_ids=people))
    store.cohort.task = task
    held_out = HeldOut(rows, people[rows], fold, target[rows], held, tuning=tuning, files=files)
    return Findings(config, [store] * folds, held_out, comparison)
