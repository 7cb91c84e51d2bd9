"""The columns a registered model takes, one row a patient, and the records and predictions they stand for."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from numpy.typing import NDArray

from encoders.records import CodeEvents, Image, Note, Record, no_events
from fusion.component import UsageError
from fusion.task import Task

# first the column a modality cannot be without, then what is known of each item; all of one length in a row
COLUMNS: dict[str, dict[str, Any]] = {
    "codes": {"codes": DataType.string, "code_days": DataType.double, "code_values": DataType.double},
    "notes": {"notes": DataType.string, "note_days": DataType.double, "note_kinds": DataType.string},
    "images": {"images": DataType.binary, "image_days": DataType.double, "image_views": DataType.string},
}
READS = {"graph": "codes"}  # the graph modality is about the patient's codes


def signature(modalities: Sequence[str], task: Task) -> ModelSignature:
    """Return the columns a model of these modalities takes, all optional, and those it gives back."""
    reads = [name for name in COLUMNS if name in {READS.get(each, each) for each in modalities}]
    inputs = [ColSpec(Array(kind), column, required=False) for name in reads for column, kind in COLUMNS[name].items()]
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double, name) for name in outputs(task)]))


def example(modalities: Sequence[str]) -> pd.DataFrame:
    """Return an input example: a made-up patient, then one who has nothing."""
    made_up = {
        "codes": ["ICD10CM//I50.23", "LAB//creatinine"],
        "code_days": [30.0, 1.5],
        "code_values": [float("nan"), 1.2],
        "notes": ["Admitted with shortness of breath."],
        "note_days": [1.0],
        "note_kinds": ["admission"],
    }
    reads = {READS.get(each, each) for each in modalities}
    columns = [column for name in COLUMNS if name in reads and name != "images" for column in COLUMNS[name]]
    if not columns:
        return pd.DataFrame({"image_days": [None]}, dtype=object)
    return pd.DataFrame({column: [made_up[column], None] for column in columns}, dtype=object)


def outputs(task: Task) -> list[str]:
    """Name the columns a prediction has."""
    if task.kind == "binary":
        return ["probability"]
    return ["value"] if task.kind == "regression" else list(task.names)


def prediction_frame(task: Task, predictions: NDArray[np.float32]) -> pd.DataFrame:
    """Return predictions (N, K) as a table with a named column an output."""
    return pd.DataFrame(predictions.astype(np.float64), columns=outputs(task))


def records(frame: pd.DataFrame, folder: Path) -> list[Record]:
    """Turn rows into records; a column that is left out, None, NaN or an empty list is an absent modality.

    Image bytes are written into the folder, where the records point.

    Raises:
        UsageError: columns of one modality differ in length, or an image is no base64 text; names the row.
    """
    rows: list[Any] = frame.to_dict("records")
    return [_record(row, index, folder) for index, row in enumerate(rows)]


def _record(row: Mapping[str, Any], index: int, folder: Path) -> Record:
    return Record(
        codes=_codes(_items(row, "codes", index)),
        notes=tuple(
            Note(str(text), days, kind) for text, days, kind in _typed(_items(row, "notes", index), ("", "note"))
        ),
        images=tuple(
            Image(_written(content, folder / f"{index}-{i}", index), days, view)
            for i, (content, days, view) in enumerate(_typed(_items(row, "images", index), ("", "unknown")))
        ),
    )


def _items(row: Mapping[str, Any], modality: str, index: int) -> list[tuple[Any, ...]]:
    """Return a patient's items of a modality, oldest first, as (content, days, further)."""
    main, *rest = COLUMNS[modality]
    contents = _list(row.get(main))
    columns = [contents]
    for name in rest:
        values = _list(row.get(name)) or [None] * len(contents)
        if len(values) != len(contents):
            raise UsageError(f"row {index}: {name} has {len(values)} entries, {main} has {len(contents)}")
        columns.append(values)
    return sorted(zip(*columns, strict=True), key=lambda item: -_float(item[1], 0.0))


def _typed(items: list[tuple[Any, ...]], defaults: tuple[str, str]) -> list[tuple[Any, float, str]]:
    absent = [(content, days, further) for content, days, further in items if not _missing(content)]
    return [(each, _float(days, 0.0), defaults[1] if _missing(more) else str(more)) for each, days, more in absent]


def _codes(items: list[tuple[Any, ...]]) -> CodeEvents:
    if not items:
        return no_events()
    codes, days, values = zip(*items, strict=True)
    return CodeEvents(
        tuple(str(code) for code in codes),
        np.array([_float(each, 0.0) for each in days], np.float32),
        np.array([_float(each, math.nan) for each in values], np.float32),
    )


def _written(content: Any, path: Path, index: int) -> Path:
    try:  # JSON has no bytes: there they are base64, which no image file is
        content = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        if isinstance(content, str):
            raise UsageError(f"row {index}: images must be bytes, or base64 text in JSON") from None
    path.write_bytes(bytes(content))
    return path


def _list(value: Any) -> list[Any]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return []
    return [value] if isinstance(value, str | bytes) else list(value)


def _missing(value: Any) -> bool:
    return value is None or value == "" or value == b"" or (isinstance(value, float) and math.isnan(value))


def _float(value: Any, default: float) -> float:
    try:
        return default if _missing(value) else float(value)
    except (TypeError, ValueError):  # Python would quote it
        raise UsageError(f"days and values must be numbers; got {type(value).__name__}") from None
