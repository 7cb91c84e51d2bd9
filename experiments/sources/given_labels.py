"""Labels that somebody else made for a dataset, in MEDS' schema: a file, or a folder of shards of one label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import polars as pl

from experiments.data.tables import INTEGER, TIME, check_filled, read_table
from experiments.sources.flow import once, step
from experiments.sources.folder import LabelColumn, write_labels
from fusion.component import UsageError

_COLUMNS: tuple[LabelColumn, ...] = get_args(LabelColumn)


def read_given(path: Path) -> tuple[str, pl.DataFrame, LabelColumn]:
    """Return a label's name, its rows (subject_id, prediction_time, value, row) and the column of the value.

    Raises:
        UsageError: there is none, or a file is not in MEDS' schema of labels.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UsageError(f"{path}: no label there; wanted a parquet file, or a folder of them, in MEDS' schema")
    tables = [_read(file) for file in files]
    filled = [name for name in _COLUMNS if any(name in each and each[name].null_count() < len(each) for each in tables)]
    if len(filled) != 1:
        raise UsageError(f"{path}: expected exactly one of {', '.join(_COLUMNS)}; got {', '.join(filled) or 'none'}")
    lacking = next(
        (file for file, each in zip(files, tables, strict=True) if len(each) and filled[0] not in each), None
    )
    if lacking is not None:
        raise UsageError(f"{lacking}: missing column '{filled[0]}', which the other files have")
    rows = [each.select("subject_id", "prediction_time", "row", value=filled[0]) for each in tables if len(each)]
    return path.stem, pl.concat(rows, how="vertical_relaxed"), filled[0]


def lay_given(folder: Path, paths: Sequence[Path], known: pl.DataFrame | None) -> dict[str, list[dict[str, Any]]]:
    """Write given labels and return the flow of each.

    Args:
        known: the patients that may be predicted, in a column subject_id; None where all may.

    Raises:
        UsageError: a label is not readable, contradicts itself, is there twice, or nobody in it is known.
    """
    flow: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        name, rows, column = read_given(Path(path))
        if name in flow:
            raise UsageError(f"{path}: two labels are called '{name}'")
        steps = [step(f"rows of {Path(path).name}", rows)]
        filled = rows.drop_nulls("value")
        steps.append(step("with a value", filled, rows))
        filled = once(filled, str(path), steps)
        kept = filled if known is None else filled.join(known, on="subject_id", how="semi", maintain_order="left")
        steps.append(step("of patients of the dataset", kept, filled))
        if kept.is_empty():
            raise UsageError(f"{path}: none of its patients is in the dataset")
        write_labels(folder, name, kept.rename({"value": column}), column)
        last = step("predicted", kept)
        flow[name] = [*steps, last | ({"positive": int(kept["value"].sum())} if column == "boolean_value" else {})]
    return flow


def _read(path: Path) -> pl.DataFrame:
    table = read_table(path, {"subject_id": INTEGER, "prediction_time": TIME})
    check_filled(path, table, ("subject_id", "prediction_time"))
    return table.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
