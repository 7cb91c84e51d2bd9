"""Pieces of a table in the types that are counted on: what is not readable is named or counted, never passed on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from experiments.sources.moments import Clock
from experiments.sources.pieces import Origin, raw_pieces
from fusion.component import UsageError

Kind = Literal["id", "number", "text", "time"]
ROW = "row of the file"  # the name of the column that says so
_WHOLE = r"^[+-]?\d{1,18}(\.0*)?$"
_WANTED = {
    "id": "a whole number",
    "number": "a number",
    "text": "text",
    "time": "a time",
}


@dataclass(frozen=True)
class Column:
    """What a column must be. Of a number with `decimal` ",", "." parts thousands. `fixed` stands for every row."""

    kind: Kind
    name: str
    clock: Clock = field(default_factory=Clock)
    decimal: str = "."
    fixed: str | None = None


@dataclass
class Typed:
    """A table whose columns are read in their types, under names of their own.

    An id that cannot be read is an error, for the table is not what it should be. A time or number that cannot be
    read leaves its row out, and `reasons` counts that; if none in the column's first piece can be read, it is an error.
    `notes` counts what was read though it is written oddly.
    """

    origin: Origin
    columns: Mapping[str, Column]
    reasons: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    _readable: set[str] = field(default_factory=set)

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the rows that can be read, each with its number in the column `ROW`.

        Raises:
            UsageError: a column is missing or of another kind, an id is none, or the table is damaged.
        """
        wanted = written_names(self.columns)
        for first, piece in raw_pieces(self.origin, wanted):
            self.rows += piece.height
            good = pl.repeat(True, piece.height, eager=True)
            found: list[pl.Series] = [pl.int_range(first, first + piece.height, eager=True).alias(ROW)]
            for name, column in self.columns.items():
                raw = piece[column.name] if column.fixed is None else pl.repeat(column.fixed, piece.height, eager=True)
                values, wrong = self._read(column, raw, first)
                found.append(values.alias(name))
                if fresh := int((wrong & good).sum()):
                    self.reasons[f"no readable {column.kind} in {column.name}"] += fresh
                good &= ~wrong
            yield pl.DataFrame(found).filter(good)

    def _read(self, column: Column, raw: pl.Series, first: int) -> tuple[pl.Series, pl.Series]:
        name = column.name
        raw = raw.cast(pl.String) if raw.dtype in (pl.Categorical, pl.Enum, pl.Null) else raw
        raw = raw.fill_nan(None) if raw.dtype.is_float() else raw
        if raw.dtype == pl.String:
            text = raw.str.strip_chars()
            raw = raw.set(text == "", None) if column.kind == "text" else text.set(text == "", None)
        values = self._values(column, raw, first)
        wrong = values.is_null() & raw.is_not_null()
        if wrong.any() and (column.kind == "id" or (name not in self._readable and values.null_count() == len(values))):
            raise self.wrong(name, int(wrong.arg_true()[0]) + first, f"must be {_WANTED[column.kind]}{_advice(column)}")
        if values.null_count() < len(values):
            self._readable.add(name)
        return values, wrong

    def _values(self, column: Column, raw: pl.Series, first: int) -> pl.Series:
        if column.kind == "time":
            times, loose = column.clock.read(raw)
            if loose.any():
                why = "has an offset or zone; say in which zone the other times are, for example Europe/Berlin"
                raise self.wrong(column.name, int(loose.arg_true()[0]) + first, why, got="")
            return times
        if column.kind == "text":
            return raw.cast(pl.String, strict=False)
        if column.kind == "number":
            return _numbers(raw, column.decimal)
        values, odd = _whole_numbers(raw)
        if odd:
            self.notes[f"{column.name}: whole numbers written like 123.0"] += odd
        return values

    def wrong(self, name: str, row: int, why: str, got: str = "; got another type") -> UsageError:
        """Make the error about a row and column; it does not say what stands there."""
        return UsageError(f"{self.origin.where}: row {row}: column '{name}' {why}{got}")


def written_names(columns: Mapping[str, Column]) -> list[str]:
    """Return the names of the columns that a table must have."""
    return list(dict.fromkeys(column.name for column in columns.values() if column.fixed is None))


def _whole_numbers(raw: pl.Series) -> tuple[pl.Series, int]:
    """Return whole numbers, null where there is none, and how many of them are written as fractions."""
    if raw.dtype.is_integer():
        return raw.cast(pl.Int64, strict=False), 0
    if raw.dtype.is_float():
        whole = raw.set((raw != raw.round()) | (raw.abs() >= 2**53), None)
        return whole.cast(pl.Int64, strict=False), len(whole) - whole.null_count()
    if raw.dtype != pl.String:
        return raw.clear(len(raw)).cast(pl.Int64, strict=False), 0
    fits = raw.str.contains(_WHOLE)
    digits = raw.set(~fits, None).str.strip_chars_start("+")
    odd = int(digits.str.contains(".", literal=True).sum())
    return digits.str.replace(r"\.0*$", "").cast(pl.Int64, strict=False), odd


def _numbers(raw: pl.Series, decimal: str) -> pl.Series:
    if raw.dtype == pl.String and decimal == ",":
        raw = raw.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    if raw.dtype == pl.String or raw.dtype.is_numeric() or raw.dtype == pl.Boolean:
        numbers = raw.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_finite(), None)
    return raw.clear(len(raw)).cast(pl.Float64, strict=False)


def _advice(column: Column) -> str:
    if column.kind == "time":
        if column.clock.since is not None:
            return f": {column.clock.unit} since {column.clock.since}, or a length of time"
        return f" as {column.clock.format}" if column.clock.format else " like 2024-01-31 14:05 (or say its format)"
    return ""
