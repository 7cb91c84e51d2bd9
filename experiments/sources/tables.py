"""Reading the CSV tables of a release piece by piece, and laying their rows apart by shard of patients."""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from fusion.component import UsageError

Kind = Literal["integer", "number", "text", "time"]
_TYPES = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string(), "time": pa.timestamp("us")}
_BLOCK_BYTES = 4 * 2**20
_HELD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Parts:
    """What the tables hold on the patients of one shard."""

    folder: Path

    def read(self, table: str) -> pl.DataFrame | None:
        """Return a table's rows of this shard; None where it has none."""
        path = self.folder / f"{table}.parquet"
        return pl.read_parquet(path) if path.is_file() else None


def find_table(folder: Path, name: str) -> Path | None:
    """Find `name.csv` or `name.csv.gz`, whatever the case of its letters."""
    wanted = {f"{name.lower()}.csv", f"{name.lower()}.csv.gz"}
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def read_header(path: Path, encoding: str = "utf-8", separator: str = ",", *, quoted: bool = True) -> list[str]:
    """Read the names of the columns of a CSV file, plain or gzipped, without a mark of the byte order.

    Raises:
        UsageError: the file is no CSV file.
        OSError: the system does not let it be read.
    """
    binary = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with binary(path, "rb") as file:
            line = file.readline().decode(encoding).removeprefix("\ufeff")
        return next(
            csv.reader([line], delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE), []
        )
    except UnicodeDecodeError:
        raise UsageError(f"{path}: row 1: the header is no {encoding} text; not readable as a CSV file") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise refused(path, error) or UsageError(f"{path}: not readable as a CSV file") from None


def read_pieces(path: Path, columns: Mapping[str, Kind], separator: str = ",") -> Iterator[pl.DataFrame]:
    """Read the named columns of a CSV file in pieces of bounded size; names match whatever their case.

    With tabs between columns, quotes are text as any other.

    Raises:
        UsageError: a column is missing, a value is of another type, or the file is damaged.
        OSError: the system does not let it be read.
    """
    header = read_header(path, separator=separator)
    written = {name.lower(): name for name in header}
    for name in columns:
        if name.lower() not in written:
            raise UsageError(f"{path}: missing column '{name}'; got {', '.join(header) or 'no header'}")
    wanted = {written[name.lower()]: kind for name, kind in columns.items()}
    convert = arrow_csv.ConvertOptions(
        include_columns=list(wanted),
        column_types={name: _TYPES[kind] for name, kind in wanted.items()},
        null_values=[""],
        strings_can_be_null=True,
    )
    try:
        with pa.input_stream(str(path), compression="gzip" if path.suffix.lower() == ".gz" else None) as stream:
            reader = arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=_parsing(separator),
                convert_options=convert,
            )
            for batch in reader:
                if batch.num_rows:
                    piece = pl.from_arrow(batch)
                    assert isinstance(piece, pl.DataFrame)
                    yield piece.rename(dict(zip(wanted, columns, strict=True)))
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise refused(path, error) or damaged(path, header, wanted, str(error)) from None


def _parsing(separator: str) -> Any:
    if separator == "\t":
        return arrow_csv.ParseOptions(delimiter=separator, quote_char=False)
    return arrow_csv.ParseOptions(delimiter=separator, newlines_in_values=True)


def read_whole(path: Path, columns: Mapping[str, Kind]) -> pl.DataFrame:
    """Read a table that is small enough to be held, as `read_pieces` does."""
    schema = {name: _POLARS[kind] for name, kind in columns.items()}
    return pl.concat([pl.DataFrame(schema=schema), *read_pieces(path, columns)])


def check_key(path: Path, table: pl.DataFrame, key: str, needed: Iterable[str], what: str) -> None:
    """Check that a key is there once in each row, and that needed columns are filled.

    Raises:
        UsageError: with the file, the row and the column.
    """
    for name in (key, *needed):
        if table[name].null_count():
            row = int(table[name].is_null().arg_true()[0]) + 2
            raise UsageError(f"{path}: row {row}: column '{name}' is empty")
    if table[key].n_unique() < table.height:
        row = int((~table[key].is_first_distinct()).arg_true()[0]) + 2
        raise UsageError(f"{path}: row {row}: '{key}' repeats {what}")


def lay_pieces_apart(
    name: str,
    pieces: Iterator[pl.DataFrame],
    rows: Callable[[pl.DataFrame], pl.DataFrame],
    shards: pl.DataFrame | Callable[[], pl.DataFrame],
    folder: Path,
) -> dict[str, int]:
    """Write what is kept of each piece to `folder/<shard>/<name>.parquet`; return how many rows were read and kept.

    Shape:
        shards: a key and the column shard; rows whose key it has not are left out, and counted as unknown. Or what
            returns them as far as they are known, once `rows` was called.
    """
    writers: dict[int, Any] = {}
    counts = {"rows": 0, "kept": 0, "unknown": 0}
    held: list[pl.DataFrame] = []
    try:
        for piece in pieces:
            counts["rows"] += piece.height
            table = rows(piece)
            known = shards() if callable(shards) else shards
            key = next(each for each in known.columns if each != "shard")
            held.append(table.join(known, on=key, maintain_order="left"))
            counts["kept"] += held[-1].height
            counts["unknown"] += table.height - held[-1].height
            if sum(each.estimated_size() for each in held) > _HELD_BYTES:  # many small row groups cost memory, too
                _write(name, held, writers, folder)
                held = []
        _write(name, held, writers, folder)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def _write(name: str, held: list[pl.DataFrame], writers: dict[int, Any], folder: Path) -> None:
    if not held:
        return
    for (shard,), part in pl.concat(held).group_by("shard", maintain_order=True):
        data = part.drop("shard").to_arrow()
        if shard not in writers:
            target = folder / f"{shard:05d}"
            target.mkdir(parents=True, exist_ok=True)
            writers[int(shard)] = pq.ParquetWriter(target / f"{name}.parquet", data.schema)
        writers[int(shard)].write_table(data)


def refused(path: Path, error: BaseException) -> OSError | None:
    """Return what the system says where it, and not what stands in the file, kept the file from being read.

    No permission, or a disk or network drive that fails: the file may be whole, so what was done so far is kept.
    """
    if isinstance(error, OSError) and error.errno is not None:  # what Arrow and gzip say of contents has no number
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return None


def damaged(path: Path, header: list[str], wanted: Mapping[str, Kind], message: str) -> UsageError:
    """Make the error that says where a file is wrong, and not what stands there: that may be about a patient."""
    row = re.search(r"Row #(\d+)", message)
    place = f"{path}: row {row[1]}" if row else f"{path}"
    column = re.search(r"CSV column #(\d+)", message)
    if column is None:
        return UsageError(f"{place}: damaged or not a CSV file")
    name = header[int(column[1])] if int(column[1]) < len(header) else column[1]
    if "invalid UTF8" in message:
        return UsageError(f"{place}: column '{name}' is no UTF-8 text; the file has another encoding, or is damaged")
    return UsageError(f"{place}: column '{name}' must be {wanted.get(name, 'text')}; got another type")


_POLARS: dict[str, pl.DataType] = {
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "text": pl.String(),
    "time": pl.Datetime("us"),
}
