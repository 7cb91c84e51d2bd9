"""Comparisons whose predictions from every set of modalities follow a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from toy_comparison import BINARY, tiny_config

from experiments.comparison import compare_predictions
from experiments.explaining.sets import Sets
from experiments.held_out import HeldOut
from experiments.metrics import METRICS
from experiments.sections import Findings
from fusion import Task

Array = NDArray[Any]
Game = Callable[[Mapping[str, Array]], Array]
"""Log-odds from what each modality says; what is hidden or absent says 0. Shape: (N,) each -> (N,)."""


class Patients:
    """Three modalities that say +1 or -1, and who has which."""

    def __init__(self, count: int = 400, seed: int = 0, rows_each: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.names = ("codes", "notes", "images")
        self.signs = rng.choice([-1.0, 1.0], size=(3, count))
        self.present = rng.random((3, count)) < np.array([1.0, 0.8, 0.6])[:, None]
        self.subject_ids = np.arange(count) // rows_each
        self.fold = (self.subject_ids % 2).astype(np.int64)
        self.rng = rng

    def target(self, game: Game) -> Array:
        """Draw outcomes of the game with everything shown."""
        return (self.rng.random(len(self.fold)) < expit(game(self._said(7)))).astype(float)

    def sets(self, game: Game) -> Array:
        """Predict from every set. Shape: (8, N, 1)."""
        return np.stack([expit(game(self._said(s))) for s in range(8)])[..., None].astype(np.float32)

    def _said(self, members: int) -> dict[str, Array]:
        shown = [self.present[j] & bool(members >> j & 1) for j in range(3)]
        return {name: self.signs[j] * shown[j] for j, name in enumerate(self.names)}

    def as_sets(self, name: str, *games: Game) -> Sets:
        by_seed = tuple(self.sets(game)[..., 0] for game in games)
        return Sets(name, self.names, by_seed, self.present)


def findings(
    folder: Path,
    cohort: Patients,
    target: Array,
    games: Mapping[str, list[Game]],
    *,
    metric: str = "auroc",
    task: Task = BINARY,
    resamples: int = 100,
    extra: Mapping[str, Mapping[str, Array]] | None = None,
) -> Findings:
    """Return what sections are made from, with two folds; `extra` are more arrays that runs of a strategy left."""
    files: dict[str, list[list[Path]]] = {}
    predictions = {}
    for name, seeds in games.items():
        predictions[name] = [cohort.sets(game)[-1, :, 0] for game in seeds]
        files[name] = []
        for place, game in enumerate(seeds):
            files[name].append([])
            for fold in (0, 1):
                here = cohort.fold == fold
                path = folder / f"{name}-{place}-{fold}.npz"
                found = {"coalitions": cohort.sets(game)[:, here], "present": cohort.present[:, here]}
                np.savez(path, modalities=np.array(cohort.names), **found, **(extra or {}).get(name, {}))
                files[name][-1].append(path)
    rows = np.arange(len(target))
    held_out = HeldOut(rows, cohort.subject_ids, cohort.fold, target, predictions, files=files)
    config = tiny_config(folder, {"codes": "bag"}, "early", resamples=resamples)
    comparison = compare_predictions(
        task,
        target,
        cohort.subject_ids,
        predictions,
        dict.fromkeys(games, "fusion"),
        fold=cohort.fold,
        metric=METRICS[metric],
        resamples=resamples,
        seed=config.seed,
    )
    stores: Any = [SimpleNamespace(task=task)] * 2
    return Findings(config, stores, held_out, comparison)
