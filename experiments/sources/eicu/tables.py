"""A table of eICU, and laying its rows apart by shard of patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from experiments.sources.tables import Kind, Parts, lay_pieces_apart, read_pieces

STAY = "patientunitstayid"


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


def lay_apart(table: Table, path: Path, stays: pl.DataFrame, folder: Path) -> dict[str, int]:
    """Write what a table keeps to `folder/<shard>/<table>.parquet`; return the counts of rows read and kept.

    Raises:
        UsageError: as `read_pieces` does.
    """
    return lay_pieces_apart(table.name, read_pieces(path, table.columns), table.rows, shards_of(stays), folder)


def shards_of(stays: pl.DataFrame) -> pl.DataFrame:
    """Return which shard each stay is in."""
    return stays.select("stay", "shard")
