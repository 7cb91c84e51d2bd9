"""Predict the patients of a data folder and write the predictions as MEDS-style parquet."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from encoders.records import Record, UnreadableImage
from experiments.bundle import Predictor, bundle_folder, load_bundle
from experiments.data.cohort import KEYS, read_labels
from experiments.data.folder import Dataset, open_dataset
from experiments.data.reader import iterate_records
from experiments.data.tables import INTEGER, TIME, check_filled, read_table, table_schema
from experiments.device import pick_device
from experiments.progress import progress_bar
from experiments.whole import whole_file
from fusion.component import UsageError
from fusion.task import Task

LOW_COVERAGE = 0.5
TRUTHS = {
    "binary": ("boolean_value",),
    "multilabel": ("boolean_value",),
    "multiclass": ("integer_value", "categorical_value"),
    "regression": ("float_value",),
}


@dataclass(frozen=True)
class Predictions:
    """What was written, and what one should know about it."""

    path: Path
    rows: int
    code_coverage: float | None
    nothing: int
    warnings: tuple[str, ...]


def predict_folder(
    model: str | Path,
    folder: Path,
    out: Path,
    *,
    labels: str | None = None,
    runs: Path = Path("runs"),
    tracking: str | None = None,
    bad_images: Literal["error", "missing"] | None = None,
    batch_size: int = 256,
    progress: bool = False,
) -> Predictions:
    """Predict patients at the times of a label file, or else each at their last event.

    The file has `subject_id` and `prediction_time`, the truth under its MEDS name where labels are given, and
    - binary: `predicted_boolean_probability`, and `predicted_boolean_value` (true from one half up);
    - multilabel: the same for each label, `_LABEL` behind the names;
    - multiclass: `predicted_categorical_value` (or `predicted_integer_value`), `predicted_probability_CLASS`;
    - regression: `predicted_float_value`.
    A patient without dated events is predicted at the last time in the folder.

    Args:
        model: a bundle folder, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        labels: a label file or folder, by name or path.
        runs: where the default tracker is.
        tracking: another tracker's address.
        bad_images: whether an unreadable image is an error or missing; as in training where it is not given.

    Raises:
        UsageError: no such model, folder or label, a wrong file or image; nothing is written then.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a parquet file")
    dataset = open_dataset(folder)
    predictor = open_predictor(model, runs, tracking)
    table = rows_to_predict(dataset, labels, predictor.task)
    watch = _Watch(_vocabulary(predictor), predictor.modalities)
    mode = bad_images or predictor.contract.get("bad_images", "error")
    found = _predict(predictor, dataset, table, watch, batch_size, progress, mode)
    _write(pl.concat([table, _columns(predictor, found)], how="horizontal"), out)
    return Predictions(out, len(table), watch.coverage, watch.nothing, tuple(watch.warnings(len(table))))


def open_predictor(model: str | Path, runs: Path, tracking: str | None = None) -> Predictor:
    """Load a bundle folder or a registered model.

    Raises:
        UsageError: there is no such model.
    """
    with tempfile.TemporaryDirectory() as downloaded:
        return load_bundle(_find(model, runs, tracking, Path(downloaded)), pick_device())


def rows_to_predict(dataset: Dataset, labels: str | None, task: Task) -> pl.DataFrame:
    """Return whom to predict and when: the rows of a label file, or else each subject at its last event.

    Raises:
        UsageError: there is no such label, or one of another kind of task.
    """
    return _last_times(dataset) if labels is None else _labelled(dataset, labels, task)


def _find(model: str | Path, runs: Path, tracking: str | None, destination: Path) -> Path:
    if not str(model).startswith("models:"):
        return bundle_folder(model)
    from experiments.tracking.registry import resolve
    from experiments.tracking.runs import connect

    return resolve(model, connect(tracking, runs), destination)


class _Watch:
    """Counts what is known of the records that go by."""

    def __init__(self, vocabulary: frozenset[str] | None, modalities: tuple[str, ...]) -> None:
        self.vocabulary, self.modalities = vocabulary, modalities
        self.events: Counter[bool] = Counter()
        self.nothing = 0
        self.unreadable: set[Path] = set()

    def see(self, record: Record) -> None:
        """Count a record's known and unknown codes, and whether it has anything the model reads."""
        if self.vocabulary is not None:
            self.events.update(code in self.vocabulary for code in record.codes.codes)
        has = {"codes": len(record.codes.codes), "notes": len(record.notes), "images": len(record.images)}
        self.nothing += not any(has.get(name, has["codes"]) for name in self.modalities)

    @property
    def coverage(self) -> float | None:
        """The fraction of coded events whose code the model knows; None where that means nothing."""
        total = self.events.total()
        return self.events[True] / total if total else None

    def warnings(self, rows: int) -> Iterator[str]:
        """Say in a line each what makes these predictions doubtful."""
        if self.coverage is not None and self.coverage < LOW_COVERAGE:
            yield (
                f"the model knows only {self.coverage:.0%} of the {self.events.total():,} coded events here;"
                " does this folder use the coding systems the model was trained on?"
            )
        if self.nothing:
            yield f"{self.nothing:,} of {rows:,} patients have nothing that the model reads"
        if self.unreadable:
            yield f"{len(self.unreadable):,} unreadable images were treated as missing"


def _predict(
    predictor: Predictor,
    dataset: Dataset,
    table: pl.DataFrame,
    watch: _Watch,
    batch_size: int,
    progress: bool,
    bad_images: str,
) -> NDArray[np.float32]:
    subjects = table["subject_id"].to_numpy().astype(np.int64)
    times = table["prediction_time"].to_numpy().astype("datetime64[us]")
    found = np.empty((len(table), predictor.task.outputs), np.float32)
    on_unreadable: Callable[[Path], None] | None = watch.unreadable.add if bad_images == "missing" else None
    records = iterate_records(
        dataset,
        subjects,
        times,
        window_days=predictor.contract.get("window_days"),
        modalities=predictor.modalities,
    )
    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar("predicting", len(table), enabled=progress))
        while chunk := list(islice(records, batch_size)):
            rows = [row for row, _ in chunk]
            for _, record in chunk:
                watch.see(record)
                advance()
            people = (record for _, record in chunk)
            try:
                found[rows] = predictor.predict_records(people, batch_size, on_unreadable)
            except UnreadableImage as error:
                raise dataset.placed(error) from None
    return found


def _last_times(dataset: Dataset) -> pl.DataFrame:
    """Return each subject's last event time, sorted by subject."""
    parts = [
        read_table(shard, {"subject_id": INTEGER, "time": TIME}, only=True)
        .drop_nulls("subject_id")
        .group_by("subject_id")
        .agg(pl.col("time").max().alias("prediction_time"))
        for shard in dataset.shards
    ]
    table = pl.concat(parts).group_by("subject_id").agg(pl.col("prediction_time").max()).sort("subject_id")
    latest = pl.col("prediction_time").max()
    epoch = pl.lit(0).cast(pl.Datetime("us"))
    return table.select("subject_id", pl.coalesce(pl.col("prediction_time"), latest, epoch))


def _labelled(dataset: Dataset, labels: str, task: Task) -> pl.DataFrame:
    """Return subjects and times of a label file or folder, with the truth where it is there."""
    path = dataset.label_path(labels)
    if path.is_dir() != (task.kind == "multilabel"):
        raise UsageError(f"{path}: the model is {task.kind}, which labels in a {_place(path)} are not")
    if not path.is_dir():
        return _truth(path, task, "")
    tables = [_truth(file, task, f"_{file.stem}") for file in sorted(path.glob("*.parquet"))]
    keys = ["subject_id", "prediction_time"]
    if not tables or any(not each.select(keys).equals(tables[0].select(keys)) for each in tables):
        raise UsageError(f"{path}: expected label files with the same patients and prediction times")
    return pl.concat([tables[0], *(each.drop(keys) for each in tables[1:])], how="horizontal")


def _place(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def _truth(path: Path, task: Task, suffix: str) -> pl.DataFrame:
    if _only_times(path):
        when = read_table(path, KEYS, only=True)
        check_filled(path, when, list(KEYS))
        return when.select(*KEYS).sort(*KEYS)
    table, column = read_labels(path)
    if column not in TRUTHS[task.kind]:
        raise UsageError(f"{path}: the model is {task.kind}, but the labels are {column}")
    return table.select(*KEYS, pl.col(column).alias(column + suffix))


def _only_times(path: Path) -> bool:
    """Tell whether a label file says when to predict and not what is true."""
    columns = set(table_schema(path))
    return {"subject_id", "prediction_time"} <= columns and not any(
        name in columns for names in TRUTHS.values() for name in names
    )


def _vocabulary(predictor: Predictor) -> frozenset[str] | None:
    """Return the codes the model knows, None where it reads none."""
    if not {"codes", "graph"} & set(predictor.modalities):
        return None
    known: set[str] = set()
    for modality, fields in {"codes": ("codes",), "graph": ("nodes", "stand_ins")}.items():
        for field in fields:
            known.update(getattr(predictor.preprocessors.get(modality), field, ()))
    return frozenset(known)


def _columns(predictor: Predictor, found: NDArray[np.float32]) -> pl.DataFrame:
    task, values = predictor.task, found.astype(np.float64)
    threshold = float(predictor.contract.get("threshold") or 0.5)
    if task.kind == "regression":
        return pl.DataFrame({"predicted_float_value": values[:, 0]})
    if task.kind == "multiclass":
        return pl.DataFrame(_classes(task, values))
    columns: dict[str, Any] = {}
    for index, name in enumerate(task.names if task.kind == "multilabel" else ("",)):
        suffix = f"_{name}" if task.kind == "multilabel" else ""
        columns[f"predicted_boolean_value{suffix}"] = values[:, index] >= threshold
        columns[f"predicted_boolean_probability{suffix}"] = values[:, index]
    return pl.DataFrame(columns)


def _classes(task: Task, values: NDArray[np.float64]) -> dict[str, Any]:
    chosen = np.array(task.names)[values.argmax(1)]
    if all(name.lstrip("-").isdigit() for name in task.names):
        best: dict[str, Any] = {"predicted_integer_value": chosen.astype(np.int64)}
    else:
        best = {"predicted_categorical_value": chosen.tolist()}
    return best | {f"predicted_probability_{name}": values[:, i] for i, name in enumerate(task.names)}


def _write(table: pl.DataFrame, out: Path) -> None:
    with whole_file(out, private=True) as temporary:
        table.write_parquet(temporary)
