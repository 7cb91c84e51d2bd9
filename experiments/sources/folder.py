"""Writing a data folder in MEDS 0.4 from polars tables: all of it, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.data.folder import SPLITS
from experiments.data.splits import split_groups
from experiments.whole import whole_folder
from fusion.component import UsageError

LabelColumn = Literal["boolean_value", "integer_value", "float_value", "categorical_value"]
SHARES = (0.7, 0.15)  # of train and of tuning
EVENT_SCHEMA: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
    "unit": pl.String(),
}
_CODE_SCHEMA: dict[str, pl.DataType] = {
    "code": pl.String(),
    "description": pl.String(),
    "parent_codes": pl.List(pl.String),
}


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `out` that becomes it when all went well and vanishes otherwise.

    Raises:
        UsageError: `out` is there and not to be overwritten.
    """
    may_be_written(out, overwrite=overwrite)
    with whole_folder(out, private=True) as folder:
        start_folder(folder)
        yield folder


def may_be_written(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it is a data folder that is to be overwritten.

    Raises:
        UsageError: as said.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise UsageError(f"{out} exists; choose another folder or say --overwrite")
    if not (out / "metadata" / "dataset.json").is_file():  # a slip of the pen may not cost anybody their source
        why = f"{out} is no data folder (it has no metadata/dataset.json), and --overwrite replaces nothing else"
        raise UsageError(f"{why}; choose another folder")


def start_folder(folder: Path) -> None:
    """Make what every data folder has."""
    for name in ("metadata", "data", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a parquet file with the types MEDS wants: `string`, but `large_string` for text_value."""
    data = table.to_arrow()
    fields = [pa.field(each.name, _meds_type(each.name, each.type)) for each in data.schema]
    pq.write_table(data.cast(pa.schema(fields)), path, compression="zstd")


def _meds_type(name: str, kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_list(kind):
        return pa.list_(_meds_type(name, kind.value_type))
    text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return pa.string() if text and name != "text_value" else kind


def write_events(folder: Path, shard: int, events: pl.DataFrame, extra: Sequence[str] = ()) -> int:
    """Write one shard, sorted by subject and time with static facts first, each fact once; return its rows.

    Columns of `EVENT_SCHEMA` that are absent are written as null; `extra` names further text columns.
    """
    schema = EVENT_SCHEMA | dict.fromkeys(extra, pl.String())
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in events.columns]
    table = events.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in schema.items())
    order = ["subject_id", "time", *(name for name in schema if name not in ("subject_id", "time"))]
    table = table.unique().sort(order, nulls_last=False)
    write_table(table, folder / "data" / f"{shard:05d}.parquet")
    return table.height


def write_codes(
    folder: Path, codes: Iterable[str], descriptions: Mapping[str, str], parents: Mapping[str, Sequence[str]]
) -> int:
    """Write `metadata/codes.parquet`, the codes and all their ancestors each in a row; return the number."""
    waiting, known = list(codes), set[str]()
    while waiting:
        code = waiting.pop()
        if code not in known:
            known.add(code)
            waiting += parents.get(code, ())
    rows = [(code, descriptions.get(code), list(parents.get(code, ()))) for code in sorted(known)]
    table = pl.DataFrame(rows, schema=_CODE_SCHEMA, orient="row")
    write_table(table, folder / "metadata" / "codes.parquet")
    return table.height


def write_edges(folder: Path, edges: pl.DataFrame) -> None:
    """Write `graph/edges.parquet` from the columns head, relation, tail, each edge once."""
    (folder / "graph").mkdir(exist_ok=True)
    table = edges.select("head", "relation", "tail").unique().sort("head", "relation", "tail")
    write_table(table, folder / "graph" / "edges.parquet")


def split_by_group(groups: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Give every subject a split, subjects of one group the same: about 70, 15 and 15 % of the subjects.

    Shape:
        groups: columns subject_id (once each) and group -> columns subject_id and split.
    """
    sizes = groups.group_by("group").len().sort("group")
    names = split_groups(sizes["len"].to_numpy(), SHARES, seed)
    chosen = pl.DataFrame({"group": sizes["group"], "split": names.tolist()})
    return groups.join(chosen, on="group").select("subject_id", "split").sort("subject_id")


def write_splits(folder: Path, splits: pl.DataFrame) -> dict[str, int]:
    """Write `metadata/subject_splits.parquet` and return the number of subjects in each split."""
    write_table(splits, folder / "metadata" / "subject_splits.parquet")
    counts = dict(splits.group_by("split").len().iter_rows())
    return {name: counts.get(name, 0) for name in SPLITS}


def write_labels(
    folder: Path,
    name: str,
    labels: pl.DataFrame,
    value: LabelColumn = "boolean_value",
) -> None:
    """Write one label file with the columns subject_id, prediction_time and the value."""
    table = labels.select(pl.col("subject_id").cast(pl.Int64), pl.col("prediction_time").cast(pl.Datetime("us")), value)
    write_table(table.sort("subject_id", "prediction_time"), folder / "labels" / f"{name}.parquet")


def write_dataset(folder: Path, **about: Any) -> None:
    """Write `metadata/dataset.json`; `about` has names, version, license, extension columns."""
    fixed = {
        "etl_name": "ehrfusion",
        "etl_version": "1",
        "meds_version": "0.4.1",
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        "code_modifier_columns": ["unit"],
    }
    write_json(folder / "metadata" / "dataset.json", about | fixed)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data as JSON for people to read."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
