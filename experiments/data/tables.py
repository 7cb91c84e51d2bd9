"""Reading parquet files that somebody else wrote: what is wrong is said in a line, and never quotes a value."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fusion.component import UsageError


class Kind(NamedTuple):
    """What a column must be: its name for people, and the test."""

    name: str
    fits: Callable[[pl.DataType], bool]


INTEGER = Kind("int64", lambda kind: kind.is_integer())
TIME = Kind("a timestamp", lambda kind: isinstance(kind, pl.Datetime))
TEXT = Kind("string", lambda kind: isinstance(kind, pl.String | pl.Categorical | pl.Enum))
NUMBER = Kind("float32", lambda kind: kind.is_numeric())
TEXTS = Kind("a list of strings", lambda kind: getattr(kind, "inner", None) in (pl.String, pl.Null))
SITE = Kind("string or int64", lambda kind: TEXT.fits(kind) or INTEGER.fits(kind))
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # from 1 to 9999, which is what Python can show
_UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException, pl.exceptions.PolarsError)


def read_table(
    path: Path, needed: Mapping[str, Kind], optional: Mapping[str, Kind] | None = None, *, only: bool = False
) -> pl.DataFrame:
    """Read a parquet file; integers become int64 and times microseconds without a zone.

    Args:
        needed: columns that must be there, and what they must be.
        optional: columns that may be missing or empty, and what they must be otherwise.
        only: leave other columns out.

    Raises:
        UsageError: it cannot be read, or a column is missing, of another type or out of its range.
    """
    schema = table_schema(path)
    for name in needed:
        if name not in schema:
            raise UsageError(f"{path}: missing column '{name}'; got {', '.join(schema) or 'none'}")
    kinds = {name: kind for name, kind in {**(optional or {}), **needed}.items() if name in schema}
    for name, kind in kinds.items():
        if not kind.fits(schema[name]) and (name in needed or schema[name] != pl.Null):
            raise UsageError(f"{path}: column '{name}' must be {kind.name}; got {_shown(schema[name])}")
    table = _read(path, list(kinds) if only else None)
    return table.with_columns(
        _usual(path, table[name]) for name, kind in kinds.items() if kind in (INTEGER, TIME, TEXT)
    )


def table_schema(path: Path) -> dict[str, pl.DataType]:
    """Return the columns of a parquet file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        found = _frame(pq.read_schema(path).empty_table())
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None
    return dict(found.schema)


def _read(path: Path, columns: list[str] | None) -> pl.DataFrame:
    """Read by Arrow: on a damaged file polars panics, and its threads write to the terminal what they stumbled over."""
    try:
        with pq.ParquetFile(path) as file:
            return _frame(file.read(columns))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from None


def _frame(table: pa.Table) -> pl.DataFrame:
    """Hand a table from Arrow to polars, which trusts that names and texts are UTF-8 and reads metadata, too."""
    table = pa.Table.from_arrays(table.columns, names=table.schema.names)
    table.validate(full=True)
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def check_filled(path: Path, table: pl.DataFrame, names: Sequence[str]) -> None:
    """Refuse a table with nulls in some columns.

    Raises:
        UsageError: there is one; names the row and the column.
    """
    for name in names:
        if table[name].null_count():
            raise UsageError(f"{path}: row {int(table[name].is_null().arg_true()[0])}: {name} is null")


def _usual(path: Path, column: pl.Series) -> pl.Series:
    """Return a column in the type that everything after reading counts on."""
    if column.dtype == pl.Null:
        return column
    wanted: pl.DataType = pl.String()
    if column.dtype.is_integer():
        wanted = pl.Int64()
    elif column.dtype.is_temporal():
        wanted = pl.Datetime("us")
    found = column.cast(wanted, strict=False)
    lost = found.is_null() & column.is_not_null()
    if column.dtype.is_temporal():
        lost |= ~found.to_physical().is_between(*_YEARS)
    if lost.any():
        raise UsageError(f"{path}: row {int(lost.arg_true()[0])}: {column.name} is out of the range of {wanted}")
    return found


def _shown(kind: pl.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 60 else text[:57] + "..."


def _unreadable(path: Path, error: BaseException) -> UsageError:
    """What Arrow and polars say may quote the file's content, so it is not passed on."""
    number = error.errno if isinstance(error, OSError) else None
    why = os.strerror(number) if number else "it is damaged, or of another format"
    return UsageError(f"{path}: not readable as parquet: {why}")
