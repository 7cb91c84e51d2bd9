"""The held-out predictions of a comparison: every row once a seed, from the model of the fold that held it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.store import Store
from experiments.evaluate import squeeze_outputs
from experiments.jobs import JobFailure
from fusion import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class HeldOut:
    """Rows, the fold that held each out, and predictions of strategies, one a seed; warnings say what is not there.

    `tuning` are the rows that chose the epochs of each fold, `files` what each run of a strategy left, by seed and
    fold: arrays named `predictions`, `tuning_predictions` and, of a network of several modalities, `coalitions`
    (predictions from every set of `modalities`), `present` (who has which) and, of a fusion with a view a modality,
    `weights` (how much each counts in the mean).

    Shape:
        rows, subject_ids and fold (N,) int64; target (N,) or (N, K); predictions (N,) or (N, K) each.
    """

    rows: NDArray[np.int64]
    subject_ids: NDArray[np.int64]
    fold: NDArray[np.int64]
    target: Array
    predictions: Mapping[str, Sequence[Array]]
    warnings: tuple[str, ...] = ()
    tuning: tuple[NDArray[np.int64], ...] = ()
    files: Mapping[str, Sequence[Sequence[Path]]] = field(default_factory=dict)

    def arrays(self, strategy: str, name: str) -> list[list[Array]] | None:
        """Return an array of every run by seed and fold; None where the strategy's runs have no such array."""
        found: list[list[Array]] = []
        for folds in self.files[strategy]:
            found.append([])
            for path in folds:
                with np.load(path, allow_pickle=False) as file:
                    if name not in file:
                        return None
                    found[-1].append(file[name])
        return found


def held_out_rows(stores: Sequence[Store]) -> HeldOut:
    """Return who is tested, before there is any prediction.

    Args:
        stores: one a fold.
    """
    by_fold = [store.cohort.rows("held_out") for store in stores]
    rows = np.concatenate(by_fold)
    order = np.argsort(rows, kind="stable")
    fold = np.repeat(np.arange(len(by_fold)), [len(each) for each in by_fold])[order]
    rows, cohort = rows[order], stores[0].cohort
    tuning = tuple(store.cohort.rows("tuning") for store in stores)
    return HeldOut(rows, cohort.subject_ids[rows], fold, cohort.targets[rows], {}, tuning=tuning)


def with_predictions(
    tested: HeldOut, store: Store, found: Mapping[str, Sequence[Sequence[str | JobFailure]]]
) -> HeldOut:
    """Read predictions; a seed of a strategy counts only where it ran, to finite predictions, in every fold.

    Args:
        tested: the rows.
        store: any fold's.
        found: of each strategy, by seed, the file of each fold or why there is none.

    Raises:
        UsageError: no strategy has a whole seed.
    """
    predictions: dict[str, list[Array]] = {}
    files: dict[str, list[list[Path]]] = {}
    warnings = []
    for name, seeds in found.items():
        runs = [each for folds in seeds for each in folds]
        failures = [each.reason for each in runs if isinstance(each, JobFailure)]
        if failures:
            warnings.append(f"{name}: {len(failures)} of {len(runs)} runs failed ({failures[0]})")
        whole = [[Path(each) for each in folds if isinstance(each, str)] for folds in seeds]
        whole = [paths for paths, folds in zip(whole, seeds, strict=True) if len(paths) == len(folds)]
        pooled = [_pooled(tested, store, paths) for paths in whole]
        finite = [i for i, each in enumerate(pooled) if np.isfinite(each).all()]
        if len(finite) < len(pooled):
            warnings.append(f"{name}: predictions of {len(pooled) - len(finite)} seeds are not finite and left out")
        if finite:
            predictions[name], files[name] = [pooled[i] for i in finite], [whole[i] for i in finite]
    if not predictions:
        raise UsageError(f"every run of the comparison failed: {warnings[-1]}")
    return replace(tested, predictions=predictions, warnings=tuple(warnings), files=files)


def _pooled(tested: HeldOut, store: Store, files: Sequence[Path]) -> Array:
    """Put the predictions of folds where their rows are. Shape: (N,) or (N, K)."""
    whole = np.empty((len(tested.rows), store.task.outputs), np.float32)
    for fold, path in enumerate(files):
        with np.load(path, allow_pickle=False) as file:
            whole[tested.fold == fold] = file["predictions"]
    return squeeze_outputs(store.task, whole)
