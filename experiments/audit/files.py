"""Checks of the files themselves, which run before a cohort can be read: splits that overlap, labels that repeat."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from experiments.audit.finding import Finding, Outcome, Skipped
from experiments.data.folder import SPLIT_FILE, Dataset
from experiments.data.tables import read_table
from experiments.data_config import DataConfig
from fusion.component import UsageError


def split_file(dataset: Dataset, config: DataConfig) -> Outcome:
    """No patient of the folder's own splits is in two of them."""
    try:
        table = dataset.splits if config.splits.by == "folder" else None
    except UsageError:  # whoever reads the cohort says it better
        raise Skipped("the splits cannot be read") from None
    if table is None:
        raise Skipped(f"splits are made by {config.splits.by}, not read from the folder")
    twice = table.group_by("subject_id").len().filter(pl.col("len") > 1).height
    measured = f"{table['subject_id'].n_unique():,} patients"
    if not twice:
        return Outcome(measured)
    what = f"{twice:,} patients are in more than one split"
    return Outcome(measured, [Finding("error", SPLIT_FILE, what, "keep one line a patient")])


def label_files(dataset: Dataset, config: DataConfig) -> Outcome:
    """No patient has two labels at one time, in the same file or in two that contradict each other."""
    path = dataset.label_path(config.labels)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    found, rows = [], 0
    for file in files:
        try:
            table = read_table(file, {})
        except UsageError:  # whoever reads the cohort says it better
            raise Skipped(f"{file.name} cannot be read") from None
        rows += table.height
        keys = ["subject_id", "prediction_time"]
        if set(keys) <= set(table.columns):
            found += _repeated(table, keys, file.relative_to(dataset.folder))
    return Outcome(f"{rows:,} labels", found)


def _repeated(table: pl.DataFrame, keys: list[str], where: Path) -> list[Finding]:
    again = table.with_row_index("row").filter(~pl.struct(keys).is_first_distinct())
    if not again.height:
        return []
    differ = table.unique().group_by(keys).len().filter(pl.col("len") > 1).height
    what = f"{again.height:,} rows repeat a patient and prediction time (row {again['row'][0]} is the first); "
    what += f"{differ:,} of them contradict" if differ else "their values agree"
    return [Finding("error", where.as_posix(), what, "keep one label a patient and time")]
