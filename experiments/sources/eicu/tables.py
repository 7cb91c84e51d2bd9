"""Reading the tables of the release piece by piece, and laying their rows apart by shard of patients."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from fusion.component import UsageError

Kind = Literal["integer", "number", "text"]
STAY = "patientunitstayid"
_TYPES = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string()}
_BLOCK_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Parts:
    """What the tables hold on the patients of one shard."""

    folder: Path

    def read(self, table: str) -> pl.DataFrame | None:
        """Return a table's rows of this shard; None where it has none."""
        path = self.folder / f"{table}.parquet"
        return pl.read_parquet(path) if path.is_file() else None


@dataclass(frozen=True)
class Table:
    """A table of the release: the columns needed, rows made small, and events made of a shard's rows.

    `rows` takes a piece of the table and returns what is kept of it, with the column `stay`. `events`
    takes the parts of a shard and returns the columns stay, offset (minutes from unit admission at which the fact was
    available), code, and where known value, unit and text.
    """

    name: str
    columns: Mapping[str, Kind]
    rows: Callable[[pl.DataFrame], pl.DataFrame]
    events: Callable[[Parts], pl.DataFrame]


def find_table(folder: Path, name: str) -> Path | None:
    """Find `name.csv` or `name.csv.gz`, whatever the case of its letters."""
    wanted = {f"{name.lower()}.csv", f"{name.lower()}.csv.gz"}
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def read_pieces(path: Path, columns: Mapping[str, Kind]) -> Iterator[pl.DataFrame]:
    """Read the named columns of a CSV file, plain or gzipped, in pieces of bounded size.

    Raises:
        UsageError: a column is missing, a value is of another type, or the file is damaged.
    """
    _check_header(path, columns)
    convert = arrow_csv.ConvertOptions(
        include_columns=list(columns),
        column_types={name: _TYPES[kind] for name, kind in columns.items()},
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        with pa.input_stream(str(path)) as stream:
            reader = arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=convert,
            )
            for batch in reader:
                if batch.num_rows:
                    piece = pl.from_arrow(batch)
                    assert isinstance(piece, pl.DataFrame)
                    yield piece
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise _damaged(path, columns, str(error)) from None


def lay_apart(table: Table, path: Path, stays: pl.DataFrame, folder: Path) -> dict[str, int]:
    """Write what a table keeps to `folder/<shard>/<table>.parquet`; return the counts of rows read and kept.

    Raises:
        UsageError: as `read_pieces` does.
    """
    return lay_pieces_apart(table.name, read_pieces(path, table.columns), table.rows, stays, folder)


def lay_pieces_apart(
    name: str,
    pieces: Iterator[pl.DataFrame],
    rows: Callable[[pl.DataFrame], pl.DataFrame],
    stays: pl.DataFrame,
    folder: Path,
) -> dict[str, int]:
    """Write what is kept of each piece to its patients' shards; rows of unknown stays are left out."""
    shards = stays.select("stay", "shard")
    writers: dict[int, Any] = {}
    counts = {"rows": 0, "kept": 0}
    try:
        for piece in pieces:
            counts["rows"] += piece.height
            kept = rows(piece).join(shards, on="stay", maintain_order="left")
            counts["kept"] += kept.height
            for (shard,), part in kept.group_by("shard", maintain_order=True):
                data = part.drop("shard").to_arrow()
                if shard not in writers:
                    target = folder / f"{shard:05d}"
                    target.mkdir(parents=True, exist_ok=True)
                    writers[int(shard)] = pq.ParquetWriter(target / f"{name}.parquet", data.schema)
                writers[int(shard)].write_table(data)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def _check_header(path: Path, columns: Mapping[str, Kind]) -> None:
    binary = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with binary(path, "rb") as file:
            header = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
    except (OSError, EOFError, UnicodeDecodeError):
        raise UsageError(f"{path}: not readable as a CSV file") from None
    for name in columns:
        if name not in header:
            raise UsageError(f"{path}: missing column '{name}'; got {', '.join(header) or 'no header'}")


def _damaged(path: Path, columns: Mapping[str, Kind], message: str) -> UsageError:
    """Say where a file is wrong without repeating what stands there, which may be about a patient."""
    row = re.search(r"Row #(\d+)", message)
    place = f"{path}: row {row[1]}" if row else f"{path}"
    column = re.search(r"CSV column #(\d+)", message)
    if column is None:
        return UsageError(f"{place}: damaged or not a CSV file")
    name = list(columns)[int(column[1])] if int(column[1]) < len(columns) else column[1]
    return UsageError(f"{place}: column '{name}' must be {columns.get(name, 'text')}; got another type")
