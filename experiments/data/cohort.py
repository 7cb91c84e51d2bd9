"""The cohort: who is predicted, when, with what truth, in which split. Nobody is left out for lacking a modality."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.data.folder import SPLITS, Dataset
from experiments.data.splits import split_fingerprint, split_subjects
from experiments.data.tables import INTEGER, TIME, check_filled, read_table
from experiments.data_config import DataConfig
from fusion.component import UsageError
from fusion.task import Kind, Task

KEYS = {"subject_id": INTEGER, "prediction_time": TIME}
_KINDS: dict[str, Kind] = {
    "boolean_value": "binary",
    "integer_value": "multiclass",
    "categorical_value": "multiclass",
    "float_value": "regression",
}


@dataclass(frozen=True)
class Cohort:
    """One row a prediction.

    Shape:
        subject_ids (N,) int64; prediction_times (N,) datetime64[us]; split (N,) strings;
        targets (N,) float32 (binary, regression), (N,) int64 (multiclass) or (N, K) float32 (multilabel).
    """

    subject_ids: NDArray[np.int64]
    prediction_times: NDArray[np.datetime64]
    targets: NDArray[np.float32] | NDArray[np.int64]
    split: NDArray[np.str_]
    task: Task
    fingerprint: str
    split_fingerprint: str

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of a split. Shape: (n,) int64."""
        return np.flatnonzero(self.split == split)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return predictions, patients and, for a binary label, positives of each split."""
        found = {}
        for split in SPLITS:
            rows = self.rows(split)
            found[split] = {"predictions": len(rows), "patients": len(np.unique(self.subject_ids[rows]))}
            if self.task.kind == "binary":
                found[split]["positives"] = int(self.targets[rows].sum())
        return found


def load_cohort(dataset: Dataset, config: DataConfig) -> Cohort:
    """Read the labels of a configuration and give every row its split.

    Raises:
        UsageError: wrong columns, a label outside its kind, duplicates, unknown subjects, an empty or one-class split.
    """
    path = dataset.label_path(config.labels)
    keys, targets, kind, names = read_targets(dataset, config.labels)
    if config.task is not None and config.task != kind:
        raise UsageError(f"{path}: data.task is '{config.task}', but the labels are {kind}")
    subjects = keys["subject_id"].to_numpy().astype(np.int64)
    times = keys["prediction_time"].to_numpy().astype("datetime64[us]")
    split = split_subjects(dataset, subjects, times, config.splits)
    check_splits(path, split, targets, kind)
    train = targets[split == "train"]
    center, scale = (float(train.mean()), float(train.std()) or 1.0) if kind == "regression" else (0.0, 1.0)
    digest = hashlib.sha256(subjects.tobytes() + times.tobytes() + targets.tobytes()).hexdigest()
    task = Task(kind, names, center, scale)
    return Cohort(subjects, times, targets, split, task, digest, split_fingerprint(subjects, split))


def read_targets(
    dataset: Dataset, labels: str
) -> tuple[pl.DataFrame, NDArray[np.float32] | NDArray[np.int64], Kind, tuple[str, ...]]:
    """Read a label: whose it is and when, the truth, the kind of task, and the names of its classes or labels.

    Raises:
        UsageError: wrong columns, a label outside its kind, duplicates.
    """
    path = dataset.label_path(labels)
    return _multilabel(path) if path.is_dir() else _single(path)


def label_kind(dataset: Dataset, labels: str) -> Kind:
    """Return the kind of task that a label file or folder is."""
    path = dataset.label_path(labels)
    return "multilabel" if path.is_dir() else _KINDS[read_labels(path)[1]]


def _single(
    path: Path,
) -> tuple[pl.DataFrame, NDArray[np.float32] | NDArray[np.int64], Kind, tuple[str, ...]]:
    table, column = read_labels(path)
    values, kind = table[column], _KINDS[column]
    if column == "boolean_value":
        return table, values.to_numpy().astype(np.float32), kind, (path.stem,)
    if column == "float_value":
        numbers = values.to_numpy().astype(np.float32)
        if not np.isfinite(numbers).all():
            raise UsageError(f"{path}: row {int(np.flatnonzero(~np.isfinite(numbers))[0])}: float_value is not finite")
        return table, numbers, kind, (path.stem,)
    names = sorted(values.unique().to_list())
    codes = np.searchsorted(np.array(names), values.to_numpy()).astype(np.int64)
    return table, codes, kind, tuple(str(name) for name in names)


def _multilabel(path: Path) -> tuple[pl.DataFrame, NDArray[np.float32], Kind, tuple[str, ...]]:
    files = sorted(path.glob("*.parquet"))
    if not files:
        raise UsageError(f"{path}: a multilabel task is a folder of label files; it holds none")
    keys: pl.DataFrame | None = None
    columns = []
    for file in files:
        table, column = read_labels(file)
        if column != "boolean_value":
            raise UsageError(f"{file}: a label of a multilabel task must be boolean_value; got {column}")
        mine = table.select("subject_id", "prediction_time")
        if keys is not None and not mine.equals(keys):
            raise UsageError(f"{file}: its patients and prediction times differ from those of {files[0].name}")
        keys = mine
        columns.append(table[column].to_numpy().astype(np.float32))
    assert keys is not None
    return keys, np.stack(columns, axis=1), "multilabel", tuple(file.stem for file in files)


def read_labels(path: Path) -> tuple[pl.DataFrame, str]:
    """Read one MEDS label file, sorted, and the name of its value column.

    Raises:
        UsageError: a column is missing or of another type, there is no single value column, a value is null, a row
            is there twice.
    """
    table = read_table(path, KEYS)
    values = [name for name in _KINDS if name in table.columns and table[name].null_count() < table.height]
    if len(values) != 1:
        raise UsageError(f"{path}: expected exactly one of {', '.join(_KINDS)}; got {', '.join(values) or 'none'}")
    _check_type(path, table, values[0])
    check_filled(path, table, ("subject_id", "prediction_time", values[0]))
    again = ~table.select(pl.struct("subject_id", "prediction_time").is_first_distinct()).to_series()
    if again.any():
        raise UsageError(
            f"{path}: row {int(again.arg_true()[0])}: repeats a subject and prediction time ({again.sum()} rows do); "
            "a patient has one label at a time"
        )
    return table.sort("subject_id", "prediction_time"), values[0]


def _check_type(path: Path, table: pl.DataFrame, column: str) -> None:
    wanted = {
        "boolean_value": table[column].dtype == pl.Boolean,
        "integer_value": table[column].dtype.is_integer(),
        "categorical_value": table[column].dtype in (pl.String, pl.Categorical),
        "float_value": table[column].dtype.is_float(),
    }
    if not wanted[column]:
        raise UsageError(f"{path}: column '{column}' is of type {table[column].dtype}, outside its kind")


def check_splits(where: Path | str, split: NDArray[np.str_], targets: NDArray[np.generic], kind: Kind) -> None:
    """Check that every split has rows, and more than one class.

    Shape:
        split (N,), targets (N,) or (N, K).

    Raises:
        UsageError: a split is empty or has one class only.
    """
    for name in SPLITS:
        mine = targets[split == name]
        if not len(mine):
            raise UsageError(f"{where}: split '{name}' is empty")
        if kind in ("binary", "multiclass") and len(np.unique(mine)) < 2:
            raise UsageError(f"{where}: split '{name}' has one class only ({mine[0]!s}) among {len(mine)} rows")
