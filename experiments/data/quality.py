"""How good the numbers are: by measurement, what has no unit, is in another one, or lies outside what is plausible."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import polars as pl

from experiments.data.folder import Dataset
from experiments.data.tables import INTEGER, NUMBER, TEXT, read_table
from experiments.data.units import FATES, harmonised, measurements

COLUMNS = ("n", "no unit", *FATES[1:])


def quality(dataset: Dataset) -> pl.DataFrame:
    """Count the events of each known measurement by what becomes of its numbers, shard by shard.

    Shape:
        -> columns code, unit, n, no unit, converted, clipped, out of range, unknown unit, no number, range; a row a
        measurement that the folder has, the most frequent first.

    Raises:
        UsageError: an event file cannot be read, or a column is of another type.
    """
    return counted(_tables(dataset))


def _tables(dataset: Dataset) -> Iterable[pl.DataFrame]:
    for shard in dataset.shards:
        needed = {"subject_id": INTEGER, "code": TEXT}
        table = read_table(shard, needed, {"numeric_value": NUMBER, "unit": TEXT}, only=True).drop("subject_id")
        kinds = {"numeric_value": pl.Float32(), "unit": pl.String()}
        absent = [pl.lit(None, kind).alias(name) for name, kind in kinds.items() if name not in table.columns]
        yield table.with_columns(absent).filter(pl.col("code").is_in(measurements()["code"].to_list()))


def counted(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Count tables of events of known measurements as `quality` does."""
    parts = []
    for table in tables:
        found = harmonised(table)
        fates = [(pl.col("fate") == fate).sum().alias(fate) for fate in FATES[1:]]
        aggregated = found.group_by("code").agg(pl.len().alias("n"), pl.col("no_unit").sum().alias("no unit"), *fates)
        parts.append(aggregated)
    whole = pl.concat(parts).group_by("code").agg(pl.col(name).sum() for name in COLUMNS)
    known = measurements().select("code", unit="canonical", range=_range())
    return whole.join(known, on="code").sort("n", "code", descending=[True, False])


def _range() -> pl.Expr:
    low, high = (pl.col(name).map_elements(lambda number: f"{number:g}", pl.String) for name in ("low", "high"))
    return pl.when(pl.col("low").is_null()).then(pl.lit("not known")).otherwise(low + pl.lit(" to ") + high)


def render_quality(table: pl.DataFrame) -> Any:
    """Return the counts as a table for the terminal; measurements about which there is nothing to say share a line."""
    from rich.table import Table

    seen = [name for name in COLUMNS if name == "n" or int(table[name].sum())]
    absent = ", ".join(name for name in COLUMNS if name not in seen)
    title = "quality of measurements: what `ehrfusion data harmonise` makes of them"
    shown = Table(title=title, caption=f"none: {absent}" if absent else None)
    shown.add_column("measurement", no_wrap=True)
    for head in ("unit", "plausible", *seen):
        side: Literal["left", "right"] = "right" if head in COLUMNS else "left"
        shown.add_column(head, justify=side)
    busy = table.filter(pl.any_horizontal(pl.col(name) > 0 for name in COLUMNS[1:]))
    for row in busy.iter_rows(named=True):
        numbers = [f"{row[name]:,}" if row[name] else "-" for name in seen]
        shown.add_row(row["code"], row["unit"] or "none", row["range"], *numbers)
    quiet = table.height - busy.height
    if quiet:
        events = int(table["n"].sum()) - int(busy["n"].sum())
        they = f"{quiet} others" if busy.height else f"all {quiet}"
        shown.add_row(f"{they}, as they should be", "", "", f"{events:,}", *["-"] * (len(seen) - 1))
    return shown
