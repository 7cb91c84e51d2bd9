"""Any table piece by piece as it is written: CSV as text, parquet files and DataFrames with their own types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from experiments.sources.tables import damaged, read_header, refused
from fusion.component import UsageError, unknown

SUFFIXES = (".csv.gz", ".csv", ".parquet")
_BLOCK_BYTES = 4 * 2**20
_ROWS = 65_536  # of a parquet file or DataFrame at once


@dataclass(frozen=True)
class Origin:
    """A table: a file, or a DataFrame that stands for it (whatever gives itself as an Arrow stream).

    `encoding` and `separator` are those of a CSV file, in which text may be `quoted`. `where` is what messages call it.
    """

    where: str
    path: Path | None = None
    frame: Any = None
    encoding: str = "utf-8"
    separator: str = ","
    quoted: bool = True

    @property
    def is_text(self) -> bool:
        """Whether it is a CSV file, plain or packed, in which everything is text."""
        return self.path is not None and self.path.suffix.lower() != ".parquet"

    @property
    def first_row(self) -> int:
        """The number of the first row of data: 2 below the header of a CSV file, else 0."""
        return 2 if self.is_text else 0


def find_file(folder: Path, name: str) -> Path | None:
    """Find `name.csv`, `name.csv.gz` or `name.parquet`, whatever the case of its letters."""
    wanted = {f"{name.lower()}{suffix}" for suffix in SUFFIXES}
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() in wanted), None)


def header_of(origin: Origin) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        UsageError: it is no table, or is empty.
        OSError: the system does not let it be read.
    """
    if origin.is_text:
        assert origin.path is not None
        if not origin.path.stat().st_size:
            raise UsageError(f"{origin.where}: the file is empty; wanted a header at least")
        return read_header(origin.path, origin.encoding, origin.separator, quoted=origin.quoted)
    if origin.frame is not None:
        return list(_arrow(origin).schema.names)
    try:
        return list(pq.read_schema(origin.path).names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(origin, error) from None


def columns_of(origin: Origin, names: Sequence[str]) -> dict[str, str]:
    """Return as what each name is written in the table, whatever its case.

    Raises:
        UsageError: one is not there, or twice; the message has the nearest that is there.
    """
    header = header_of(origin)
    times = Counter(name.lower() for name in header)
    written = {name.lower(): name for name in header} | {name: name for name in header}
    for name in names:
        if name not in written and name.lower() not in written:
            raise unknown("column", name, header, origin.where)
        if header.count(name) > 1 or (name not in header and times[name.lower()] > 1):
            raise UsageError(f"{origin.where}: column '{name}' is there twice")
    return {name: written.get(name, written.get(name.lower(), name)) for name in names}


def raw_pieces(origin: Origin, names: Sequence[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the number of a piece's first row and its named columns, as they are written.

    Raises:
        UsageError: a column is missing, or the table is damaged.
        OSError: the system does not let it be read.
    """
    written = columns_of(origin, names)
    row = origin.first_row
    for batch in _batches(origin, list(dict.fromkeys(written.values()))):
        if batch.num_rows:
            piece = _polars(batch)
            yield row, piece.select(pl.col(each).alias(name) for name, each in written.items())
            row += piece.height


def _batches(origin: Origin, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if origin.frame is not None:
        yield from _arrow(origin).select(columns).to_batches(max_chunksize=_ROWS)
    elif origin.is_text:
        yield from _csv(origin, columns)
    else:
        try:
            with pq.ParquetFile(origin.path) as file:
                yield from file.iter_batches(_ROWS, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(origin, error) from None


def _unreadable(origin: Origin, error: BaseException) -> OSError | UsageError:
    assert origin.path is not None
    damage = UsageError(f"{origin.where}: not readable as parquet: it is damaged, or of another format")
    return refused(origin.path, error) or damage


def _csv(origin: Origin, columns: list[str]) -> Iterator[pa.RecordBatch]:
    assert origin.path is not None
    header = header_of(origin)
    convert = arrow_csv.ConvertOptions(
        include_columns=columns,
        column_types=dict.fromkeys(columns, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    packed = "gzip" if origin.path.suffix.lower() == ".gz" else None
    try:
        with pa.input_stream(str(origin.path), compression=packed) as stream:
            yield from arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(
                    block_size=_BLOCK_BYTES, use_threads=False, encoding=origin.encoding
                ),
                parse_options=arrow_csv.ParseOptions(
                    newlines_in_values=origin.quoted,
                    delimiter=origin.separator,
                    quote_char='"' if origin.quoted else False,
                ),
                convert_options=convert,
            )
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise refused(origin.path, error) or damaged(origin.path, header, {}, str(error)) from None


def _arrow(origin: Origin) -> Any:
    if not hasattr(origin.frame, "__arrow_c_stream__"):
        kind = type(origin.frame).__name__
        raise UsageError(f"{origin.where}: expected a polars or pandas DataFrame or an Arrow table; got {kind}")
    try:
        return pa.table(origin.frame)
    except (pa.ArrowException, TypeError, ValueError):
        raise UsageError(f"{origin.where}: a column of the DataFrame holds several types") from None


def _polars(batch: pa.RecordBatch) -> pl.DataFrame:
    table = pa.Table.from_batches([batch])
    found = pl.from_arrow(table.replace_schema_metadata(None))
    assert isinstance(found, pl.DataFrame)
    return found
