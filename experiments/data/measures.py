"""What the numbers of a folder's codes mean: their unit, if all events agree on it, and the reference range in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import polars as pl

from encoders.records import Measure
from experiments.data.tables import TEXT, read_table, table_schema
from experiments.data.units import conversions, lines_of, measurements, plain

Range = tuple[float | None, float | None]


@cache
def references() -> dict[str, Range]:
    """Return the reference range of each measurement that has one, in its canonical unit."""
    return {line["code"]: (_bound(line["low"]), _bound(line["high"])) for line in lines_of("references")}


def folder_measures(shards: Sequence[Path]) -> dict[str, Measure]:
    """Return unit and reference range of the codes of event files.

    A code has a unit where all its events that state one state the same, and a range where that unit is known; numbers
    of several units mean nothing together (`ehrfusion data harmonise` brings them into one).

    Raises:
        UsageError: a file cannot be read.
    """
    spelled: dict[str, set[str]] = {}
    for shard in shards:
        for code, unit in _units(shard).iter_rows():
            spelled.setdefault(code, set()).add(unit)
    without = measurements().filter(pl.col("canonical").is_null())["code"]
    found = {code: _measure(code, sorted(units)) for code, units in sorted(spelled.items())}
    found |= {code: Measure("", *references()[code]) for code in without if code in references() and code not in found}
    return {code: each for code, each in found.items() if each is not None}


def _units(shard: Path) -> pl.DataFrame:
    """Return each code with each unit that is stated; a column that holds no text states none."""
    optional = {"unit": TEXT} if TEXT.fits(table_schema(shard).get("unit", pl.Null())) else {}
    table = read_table(shard, {"code": TEXT}, optional, only=True)
    if "unit" not in table.columns:
        return pl.DataFrame(schema={"code": pl.String, "unit": pl.String})
    stated = pl.col("unit").str.strip_chars()
    return table.select("code", stated).drop_nulls().filter(pl.col("unit") != "").unique()


def _measure(code: str, units: Sequence[str]) -> Measure | None:
    """Return what the spellings of a code's unit amount to; None where they are different units."""
    scales = {_scales().get((code, plain(unit))) for unit in units}
    if len(scales) > 1 or (scales == {None} and len({plain(unit) for unit in units}) > 1):
        return None
    scale = scales.pop()
    if scale is None or code not in references():
        return Measure(units[0])
    factor, offset = scale
    low, high = (None if each is None else (each - offset) / factor for each in references()[code])
    return Measure(units[0], low, high)


@cache
def _scales() -> Mapping[tuple[str, str], tuple[float, float]]:
    """How each spelling of each measurement's unit becomes the canonical one: factor and offset."""
    rows = conversions().select("code", "spelled", "factor", "offset").iter_rows()
    return {(code, spelled): (factor, offset) for code, spelled, factor, offset in rows}


def _bound(text: str) -> float | None:
    return float(text) if text else None
