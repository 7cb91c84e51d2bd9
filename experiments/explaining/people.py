"""Whose predictions are explained: held-out patients where a folder says who they are, and a line that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from experiments.data.cohort import read_labels
from experiments.data.folder import Dataset
from experiments.data.splits import split_fingerprint
from fusion.component import UsageError, unknown

EVERYBODY = "all"
_UNSEEN = "held_out"


def of_split(
    dataset: Dataset, table: pl.DataFrame, split: str | None, contract: Mapping[str, Any]
) -> tuple[pl.DataFrame, str]:
    """Keep the patients of a split, and say in a line who they are and whether the model was trained on any of them.

    Without a split these are the held-out patients where the folder has some, for what a model does with patients it
    was trained on is no guide to others; everybody where it has none.

    Args:
        table: subjects and prediction times.
        split: a split of the folder, `all`, or nothing.
        contract: of the model's bundle.

    Raises:
        UsageError: the folder has no such split.
    """
    path = dataset.folder / "metadata" / "subject_splits.parquet"
    if not path.is_file():
        if split not in (None, EVERYBODY):
            raise UsageError(f"{path} is missing, so nobody knows who is in '{split}'; leave --split out")
        return table, f"All patients of the folder, which does not say who is held out{_trained(dataset, contract)}."
    splits = pl.read_parquet(path).select(pl.col("subject_id").cast(pl.Int64), "split")
    known = splits["split"].unique().to_list()
    if split == EVERYBODY or (split is None and _UNSEEN not in known):
        return table, f"All patients of the folder{_trained(dataset, contract)}."
    chosen = split or _UNSEEN
    if chosen not in known:
        raise unknown("split", chosen, [*known, EVERYBODY], str(path))
    kept = table.join(splits.filter(pl.col("split") == chosen), on="subject_id", how="semi", maintain_order="left")
    if kept.is_empty():
        raise UsageError(f"{path}: nobody to explain is in '{chosen}'; choose another with --split, or 'all'")
    words = f"Only patients of the folder's split '{chosen}'"
    words += "" if split else "; --split all explains everybody"
    if chosen == _UNSEEN and _same_splits(dataset, splits, contract):
        return kept, f"{words}. The model was not trained on them."
    return kept, f"{words}{_trained(dataset, contract)}."


def _trained(dataset: Dataset, contract: Mapping[str, Any]) -> str:
    """Return the end of a line on whether this is the folder that a model was trained on."""
    wanted = contract.get("data_fingerprint")
    if wanted is None:
        return "; the model does not say what it was trained on, which may be some of them"
    if wanted == dataset.fingerprint:
        return ", some of whom the model was trained on, so that what it does with new patients may differ"
    return "; the model was trained on another folder"


def _same_splits(dataset: Dataset, splits: pl.DataFrame, contract: Mapping[str, Any]) -> bool:
    """Tell whether the folder's splits are those that the model was trained with."""
    wanted, label = contract.get("split_fingerprint"), contract.get("label")
    if wanted is None or label is None:
        return False
    try:
        path = dataset.label_path(str(label))
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        subjects = read_labels(files[0])[0].select(pl.col("subject_id").cast(pl.Int64))
    except (UsageError, IndexError):
        return False  # its own label is not here, so this is another folder
    found = subjects.join(splits, on="subject_id", how="left", maintain_order="left")
    if found["split"].null_count():
        return False
    return (
        split_fingerprint(found["subject_id"].to_numpy().astype(np.int64), found["split"].to_numpy().astype(np.str_))
        == wanted
    )
