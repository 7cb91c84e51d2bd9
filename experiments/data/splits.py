"""Who is in which split: as the folder says, or anew by patient, time or site; a patient is in one split only."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.data.folder import SPLIT_FILE, SPLITS, Dataset
from experiments.data.tables import INTEGER, SITE, TIME, read_table, table_schema
from experiments.data_config import SplitConfig
from fusion.component import UsageError, unknown


def split_subjects(
    dataset: Dataset, subjects: NDArray[np.int64], times: NDArray[np.datetime64], config: SplitConfig
) -> NDArray[np.str_]:
    """Return the split of each label row; rows of one subject agree.

    Shape:
        subjects (N,) int64, times (N,) datetime64 -> (N,) strings of `SPLITS`.

    Raises:
        UsageError: a subject without a split or in two, an unknown split, no site column.
    """
    unique = np.unique(subjects)
    if config.by == "folder":
        chosen = _from_folder(dataset, unique)
    elif config.by == "site":
        chosen = _by_site(dataset, unique, config)
    else:
        chosen = _by_order(_ordered(unique, subjects, times, config), unique, config)
    if config.fold:
        chosen = _dealt(chosen, np.random.default_rng([config.seed, config.fold]))
    return chosen[np.searchsorted(unique, subjects)]


def _dealt(chosen: NDArray[np.str_], rng: np.random.Generator) -> NDArray[np.str_]:
    """Deal train and tuning patients anew: who was in tuning learns now, and as many others are tuned on."""
    train, tuning = (np.flatnonzero(chosen == name) for name in ("train", "tuning"))
    found = chosen.copy()
    found[tuning] = "train"
    found[rng.permutation(train)[: len(tuning)]] = "tuning"
    return found


def split_fingerprint(subjects: NDArray[np.int64], split: NDArray[np.str_]) -> str:
    """Hash who is in which split."""
    order = np.lexsort((split, subjects))
    digest = hashlib.sha256(subjects[order].tobytes())
    digest.update("".join(split[order]).encode())
    return digest.hexdigest()


def _from_folder(dataset: Dataset, unique: NDArray[np.int64]) -> NDArray[np.str_]:
    path, table = dataset.folder / SPLIT_FILE, dataset.splits
    if table is None:
        raise UsageError(f"{path} is missing; write it, or choose data.splits.by: patient, time or site")
    twice = table.group_by("subject_id").len().filter(pl.col("len") > 1).height
    if twice:
        raise UsageError(f"{path}: {twice} subjects are in more than one split")
    for name in table["split"].unique().to_list():
        if name not in SPLITS:
            raise unknown("split", str(name), SPLITS, str(path))
    found = pl.DataFrame({"subject_id": unique}).join(table, on="subject_id", how="left", maintain_order="left")
    lacking = found["split"].null_count()
    if lacking:
        raise UsageError(f"{path}: {lacking} labelled subjects have no split")
    return found["split"].to_numpy().astype(np.str_)


def _ordered(
    unique: NDArray[np.int64], subjects: NDArray[np.int64], times: NDArray[np.datetime64], config: SplitConfig
) -> NDArray[np.int64]:
    if config.by == "patient":
        return np.random.default_rng(config.seed).permutation(unique)
    first = np.full(len(unique), np.datetime64("9999-01-01", "us"))
    np.minimum.at(first, np.searchsorted(unique, subjects), times.astype("datetime64[us]"))
    return unique[np.lexsort((unique, first))]


def _by_order(order: NDArray[np.int64], unique: NDArray[np.int64], config: SplitConfig) -> NDArray[np.str_]:
    bounds = np.round(np.cumsum([config.train, config.tuning]) * len(order)).astype(int)
    names = np.repeat(np.array(SPLITS), np.diff([0, *bounds, len(order)]))
    found = np.empty(len(unique), names.dtype)
    found[np.searchsorted(unique, order)] = names
    return found


def _by_site(dataset: Dataset, unique: NDArray[np.int64], config: SplitConfig) -> NDArray[np.str_]:
    """Keep whole sites together: shuffled sites fill train, then tuning, then what is held out."""
    names = subject_sites(dataset, unique, "data.splits.by")
    kinds, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    if len(kinds) < len(SPLITS):
        raise UsageError(f"{dataset.folder}: data.splits.by is 'site', but there are {len(kinds)} sites for 3 splits")
    chosen: NDArray[np.str_] = split_groups(counts, (config.train, config.tuning), config.seed)[inverse]
    return chosen


def subject_sites(dataset: Dataset, unique: NDArray[np.int64], setting: str) -> NDArray[np.str_]:
    """Return the site of each subject, the first where there were several, or "unknown".

    Args:
        setting: what asks for sites.

    Shape:
        unique (P,) int64 -> (P,) strings.

    Raises:
        UsageError: the dataset declares no column of sites, or a file lacks it.
    """
    column = dataset.site_column
    if column is None:
        raise UsageError(
            f"{dataset.folder}: {setting} is 'site', but metadata/dataset.json declares no site_id_columns"
        )
    lacking = [path for path in dataset.shards if column not in table_schema(path)]
    if lacking:
        raise UsageError(f"{lacking[0]}: missing column '{column}', which metadata/dataset.json declares as the site")
    wanted = {"subject_id": INTEGER, "time": TIME, column: SITE}
    frames = [read_table(path, wanted, only=True) for path in dataset.shards]
    seen = pl.concat([each.with_columns(pl.col(column).cast(pl.String)) for each in frames])
    first = pl.col(column).sort_by("time", column).first()
    sites = seen.drop_nulls(column).group_by("subject_id").agg(first)
    found = pl.DataFrame({"subject_id": unique}).join(sites, on="subject_id", how="left", maintain_order="left")
    return found[column].fill_null("unknown").to_numpy().astype(np.str_)


def split_groups(counts: NDArray[np.int64], shares: tuple[float, float], seed: int) -> NDArray[np.str_]:
    """Give whole groups of subjects, shuffled, to train, tuning and held_out, near the shares of train and tuning.

    Every split gets at least one, or the first splits do where there are fewer.

    Shape:
        counts (G,) subjects of each group -> (G,) strings of `SPLITS`.
    """
    order = np.random.default_rng(seed).permutation(len(counts))
    if len(counts) < len(SPLITS):
        return np.array(SPLITS)[np.argsort(order)]
    filled = np.cumsum(counts[order]) / counts.sum()
    first = int(np.abs(filled[:-2] - shares[0]).argmin()) + 1
    second = first + int(np.abs(filled[first:-1] - sum(shares)).argmin()) + 1
    found = np.empty(len(order), np.array(SPLITS).dtype)
    found[order] = np.repeat(np.array(SPLITS), [first, second - first, len(order) - second])
    return found
