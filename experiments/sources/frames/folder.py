"""A data folder of records, each a patient of its own who is predicted at one and the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from encoders.records import Record
from experiments.data.reader import NOTE
from experiments.sources.folder import (
    EVENT_SCHEMA,
    LabelColumn,
    new_folder,
    split_by_group,
    write_codes,
    write_dataset,
    write_edges,
    write_labels,
    write_splits,
    write_table,
)
from experiments.sources.frames.columns import Columns, columns_by_modality
from experiments.sources.frames.records import frame_records
from experiments.sources.icd import icd_parent
from experiments.sources.images import Images
from experiments.sources.knowledge import describe, hierarchy
from fusion.component import UsageError

PREDICTED = datetime(2000, 1, 1)
"""When every row is predicted; only days before it matter."""

Edges = Iterable[tuple[str, str, str]]
_SCHEMA = EVENT_SCHEMA | {"image_path": pl.String(), "view": pl.String()}


def write_frame(
    frame: Any,
    y: ArrayLike,
    out: Path,
    *,
    columns: Columns | None = None,
    groups: ArrayLike | None = None,
    edges: Edges | None = None,
    label: str = "outcome",
    name: str = "a DataFrame",
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Write a DataFrame with a patient a row as a data folder, for searches and comparisons; splits are by `seed`.

    Rows of one group, which says whose a row is, share a split. Truth and falsehood, also as 0 and 1, are a binary
    label, other whole numbers and texts are classes, numbers are a regression's.

    Raises:
        UsageError: a column or a cell is not as `frame_records` wants it, or `out` exists.
    """
    records = frame_records(frame, columns_by_modality(list(frame.columns), columns))
    value, truth = _label(np.asarray(y), len(records))
    with new_folder(Path(out), overwrite=overwrite) as folder:
        write_records(folder, records, edges or (), name)
        subjects = pl.DataFrame({"subject_id": range(len(records))}, schema={"subject_id": pl.Int64})
        labels = subjects.with_columns(pl.lit(PREDICTED).alias("prediction_time"), truth.alias(value))
        write_labels(folder, label, labels, value)
        whose = np.arange(len(records)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        write_splits(folder, split_by_group(subjects.with_columns(group=pl.Series(whose)), seed))
    return Path(out)


def write_records(folder: Path, records: Sequence[Record], edges: Edges, name: str) -> None:
    """Write events, codes with what is above them, and the graph; the number of a record is its subject."""
    for each in ("data", "metadata"):
        (folder / each).mkdir(exist_ok=True)
    rows = [row for subject, record in enumerate(records) for row in _rows(subject, record)]
    events = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    places = Images(folder).copy(Path("/"), events["image_path"])
    events = events.with_columns(places.alias("image_path"))
    write_table(events.sort("subject_id", "time", maintain_order=True), folder / "data" / "00000.parquet")
    parents = hierarchy(events["code"].unique().sort(), lambda code, _: icd_parent(code))
    write_codes(folder, parents, describe(parents, {}), parents)
    triples = [tuple(each) for each in edges]
    if any(len(each) != 3 or not all(isinstance(part, str) for part in each) for each in triples):
        raise UsageError("edges: expected (head, relation, tail), each a text")
    if triples:
        write_edges(folder, pl.DataFrame(triples, schema=["head", "relation", "tail"], orient="row"))
    write_dataset(folder, dataset_name=name, additional_value_modality_columns=["image_path"])


def _rows(subject: int, record: Record) -> Iterator[tuple[Any, ...]]:
    for code, days, value in zip(*record.codes, strict=True):
        yield subject, _time(days), code, None if np.isnan(value) else float(value), None, None, None, None
    for note in record.notes:
        yield subject, _time(note.days), NOTE + note.kind, None, note.text, None, None, None
    for image in record.images:
        yield subject, _time(image.days), "IMAGE", None, None, None, str(image.path), image.view or None


def _time(days: float) -> datetime:
    return PREDICTED - timedelta(days=float(days))


def _label(y: Any, rows: int) -> tuple[LabelColumn, pl.Series]:
    if y.shape != (rows,):
        raise UsageError(f"y must have one value a row ({rows}); got the shape {y.shape}")
    if y.dtype.kind in "OUS":
        return "categorical_value", pl.Series([str(each) for each in y])
    if y.dtype.kind == "b" or set(np.unique(y).tolist()) <= {0, 1}:
        return "boolean_value", pl.Series(y.astype(bool))
    if y.dtype.kind in "iu":
        return "integer_value", pl.Series(y.astype(np.int64))
    return "float_value", pl.Series(y.astype(np.float32))
