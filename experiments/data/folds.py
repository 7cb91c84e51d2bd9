"""Folds of all patients or sites: each is held out once, the others train and tune; outcomes are spread evenly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from experiments.data.cohort import Cohort, check_splits
from experiments.data.splits import split_fingerprint, subject_sites
from experiments.data.store import Store
from experiments.data_config import SplitConfig
from fusion import UsageError

USUAL = 5
"""Folds of a comparison that says nothing about them."""

_STREAM = 70_005
_LEAST = 2  # patients with the rarest outcome in a fold: with one, nothing could be said about chance
_STRATA = 5  # of a number, by its quantiles


def usual_folds(cohort: Cohort, splits: SplitConfig, *, searched: bool) -> tuple[int, list[str]]:
    """Return how many folds a comparison has that states none, and a remark where they are fewer than usual.

    Args:
        searched: whether a search has seen outcomes of the patients that folds would hold out.
    """
    if searched or splits.by in ("time", "site"):
        return 1, []
    rarest = _rarest(cohort)
    folds = min(USUAL, max(1, rarest // _LEAST))
    few = f"{folds} {'fold' if folds == 1 else 'folds'} in place of {USUAL}"
    return folds, [f"{few}: only {rarest} patients have the rarest outcome"] if folds < USUAL else []


def fold_store(store: Store, folds: int, fold: int, splits: SplitConfig, by: str = "patient") -> Store:
    """Return the store whose held-out patients are those of a fold; with one fold, the store as it is.

    Args:
        by: "patient", or "site" to hold whole sites out.

    Raises:
        UsageError: patients may not be dealt anew, there are fewer sites than folds, or too few patients have the
            rarest outcome.
    """
    if folds == 1:
        return store
    unique = np.unique(store.cohort.subject_ids)
    sites = subject_sites(store.dataset, unique, "compare.folds_by") if by == "site" else None
    check_folds(store.cohort, folds, splits, sites)
    dealt = fold_cohort(store.cohort, folds, fold, splits.seed, sites)
    return Store(store.dataset, dealt, store.config, store.cache)


def check_folds(cohort: Cohort, folds: int, splits: SplitConfig, sites: NDArray[np.str_] | None = None) -> None:
    """Check that a cohort can be dealt into folds.

    Raises:
        UsageError: the splits keep times or sites apart, there are fewer sites than folds, or too few patients have
            the rarest outcome.
    """
    if sites is not None and len(np.unique(sites)) < folds:
        many = len(np.unique(sites))
        raise UsageError(f"compare.folds is {folds}, but there are {many} sites and folds_by 'site' keeps each whole")
    if splits.by == "time" or (splits.by == "site" and sites is None):
        raise UsageError(
            f"compare.folds ({folds}) deals patients anew, which would mix what data.splits.by '{splits.by}' keeps "
            "apart; use compare.folds: 1"
        )
    rarest = _rarest(cohort)
    most = rarest // _LEAST
    if folds > most:
        wanted = f"choose at most {most}" if most > 1 else "use compare.folds: 1"
        raise UsageError(
            f"compare.folds is {folds}, but only {rarest} patients have the rarest outcome and a fold needs {_LEAST} "
            f"of them; {wanted}"
        )


def fold_cohort(cohort: Cohort, folds: int, fold: int, seed: int, sites: NDArray[np.str_] | None = None) -> Cohort:
    """Hold out one of the folds; the rest is dealt into train and tuning in the proportion they had.

    The seed deals the folds, so that every strategy and every training seed has the same ones. Sites are dealt whole,
    and with as many folds as sites each is held out by itself.

    Shape:
        sites (P,), of each patient in the order of their numbers.

    Raises:
        UsageError: a split would be empty or have one class only.
    """
    from sklearn.model_selection import train_test_split

    patient, strata = _strata(cohort)
    rng = np.random.default_rng([_STREAM, seed, folds])
    first, second = (int(each) for each in rng.integers(2**31, size=2))
    rest, held_out = _dealt(strata, folds, first, sites)[fold]
    sizes = [len(np.unique(cohort.subject_ids[cohort.rows(name)])) for name in ("train", "tuning")]
    tuned = max(len(np.unique(strata)), round(len(rest) * sizes[1] / sum(sizes)))
    _, tuning = train_test_split(rest, test_size=tuned, stratify=strata[rest], random_state=second)
    chosen = np.full(len(strata), "train", cohort.split.dtype)
    chosen[held_out], chosen[tuning] = "held_out", "tuning"
    split = chosen[patient]
    check_splits(f"compare.folds, fold {fold + 1} of {folds}", split, cohort.targets, cohort.task.kind)
    task = cohort.task
    if task.kind == "regression":
        train = cohort.targets[split == "train"]
        task = replace(task, center=float(train.mean()), scale=float(train.std()) or 1.0)
    found = split_fingerprint(cohort.subject_ids, split)
    return replace(cohort, split=split, task=task, split_fingerprint=found)


def _rarest(cohort: Cohort) -> int:
    return int(np.bincount(_strata(cohort)[1]).min())


def _dealt(
    strata: NDArray[np.int64], folds: int, seed: int, sites: NDArray[np.str_] | None
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return who is left and who is held out in each fold. Shape: strata and sites (P,)."""
    from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

    if sites is None:
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(strata, strata))
    if len(np.unique(sites)) == folds:
        return list(LeaveOneGroupOut().split(strata, strata, sites))
    return list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(strata, strata, sites))


def _strata(cohort: Cohort) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the patient of each row, and of each patient what is spread evenly over folds.

    That is the class, or the highest of a patient's; whether there is any label; or the fifth that a mean is in.

    Shape:
        (N,) and (P,) int64; every number from 0 on occurs.
    """
    unique, patient = np.unique(cohort.subject_ids, return_inverse=True)
    targets = cohort.targets.max(1) if cohort.targets.ndim == 2 else cohort.targets
    if cohort.task.kind == "regression":
        means = np.bincount(patient, targets) / np.bincount(patient)
        value = np.searchsorted(np.quantile(means, np.arange(1, _STRATA) / _STRATA), means)
    else:
        value = np.zeros(len(unique), np.int64)
        np.maximum.at(value, patient, targets.astype(np.int64))
    return patient, np.unique(value, return_inverse=True)[1]
