"""Units and plausible ranges of common measurements: numbers in one unit, outliers dropped or moved by rule."""

from __future__ import annotations

import csv
import hashlib
from fractions import Fraction
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import polars as pl

TABLES = ("measurements", "conversions", "references")
FATES = ("kept", "converted", "clipped", "out of range", "unknown unit", "no number")
_LIMITS = ("low", "high", "clip_low", "clip_high")
_SCALES = {"code": pl.String, "spelled": pl.String, "factor": pl.Float64, "offset": pl.Float64}


def tables_fingerprint() -> str:
    """Hash the tables of units and reference ranges, on which hangs what is told of a record's numbers."""
    return hashlib.sha256(b"".join(table(name).read_bytes() for name in TABLES)).hexdigest()


@cache
def measurements() -> pl.DataFrame:
    """Return what is known of each measurement.

    Shape:
        -> columns code, canonical (unit; null where it has none), low, high, clip_low, clip_high, source.
    """
    rows = [
        (
            line["code"],
            line["unit"] or None,
            *(float(line[name]) if line[name] else None for name in _LIMITS),
            line["source"],
        )
        for line in lines_of("measurements")
    ]
    kinds = {"code": pl.String, "canonical": pl.String, **dict.fromkeys(_LIMITS, pl.Float64), "source": pl.String}
    return pl.DataFrame(rows, schema=kinds, orient="row")


@cache
def conversions() -> pl.DataFrame:
    """Return how each spelling of a unit of each measurement becomes the canonical one.

    Shape:
        -> columns code, spelled (as `spelling` gives it), factor, offset.
    """
    found: dict[tuple[str, str], tuple[float, float]] = {}
    known = list(measurements().select("code", "canonical").iter_rows())
    lines = sorted(lines_of("conversions"), key=lambda line: not line["code"])  # one measurement's own rule comes first
    for code, unit in known:
        found[code, plain(unit or "")] = (1.0, 0.0)
        for line in lines:
            if line["code"] == code or (not line["code"] and line["unit"] == unit):
                for text in line["spelled"].split(";"):
                    scale = (float(Fraction(line["factor"])), float(Fraction(line["offset"])))
                    found.setdefault((code, plain(text)), scale)
    rows = [(*key, *scale) for key, scale in found.items()]
    return pl.DataFrame(rows, schema=_SCALES, orient="row")


def plain(unit: str) -> str:
    """Return a unit as it is looked up: no capitals, no blanks.

    Examples:
        >>> plain(" Deg. F "), plain("K/uL")
        ('deg.f', 'k/ul')
    """
    return "".join(unit.lower().split())


def spelling(unit: pl.Expr) -> pl.Expr:
    """Return units as `plain` does."""
    return unit.str.to_lowercase().str.replace_all(r"\s+", "")


def harmonised(events: pl.DataFrame) -> pl.DataFrame:
    """Bring the numbers of known measurements into their canonical unit, and apply the limits.

    A number without a unit is taken to be in the canonical one. One in an unknown unit stays as it is, and is not held
    against limits. `fate` says what became of each: kept, converted, clipped, out of range (the number is gone),
    unknown unit, no number; null for what is no known measurement.

    Shape:
        events: code, numeric_value, unit, and others -> the same columns, fate, no_unit, given (the number as it was).
    """
    number, canonical = pl.col("numeric_value").cast(pl.Float64), pl.col("canonical")
    table = events.with_columns(spelled=spelling(pl.col("unit").cast(pl.String)).fill_null("")).with_row_index("place")
    known = measurements().select("code", "canonical", *_LIMITS).with_columns(known=pl.lit(value=True))
    table = table.join(known, on="code", how="left", maintain_order="left")
    table = table.join(conversions(), on=["code", "spelled"], how="left", maintain_order="left")
    unitless = pl.col("spelled") == ""
    factor, offset = (
        pl.when(unitless).then(default).otherwise(pl.col(name)) for name, default in (("factor", 1.0), ("offset", 0.0))
    )
    table = table.with_columns(given=number, scaled=number * factor + offset)
    scaled = pl.col("scaled")
    outside = ((scaled < pl.col("low")) | (scaled > pl.col("high"))).fill_null(value=False)
    clipped = pl.max_horizontal(pl.min_horizontal(scaled, "clip_high"), "clip_low")
    fate = (
        pl.when(pl.col("known").is_null())
        .then(None)
        .when(number.is_null() | number.is_nan())
        .then(pl.lit("no number"))
        .when(scaled.is_null())
        .then(pl.lit("unknown unit"))
        .when(outside)
        .then(pl.lit("out of range"))
        .when(clipped != scaled)
        .then(pl.lit("clipped"))
        .when(scaled != number)
        .then(pl.lit("converted"))
        .otherwise(pl.lit("kept"))
    )
    table = table.with_columns(fate=fate, no_unit=unitless & canonical.is_not_null())
    done = pl.col("fate").is_in(["kept", "converted", "clipped"])
    value = pl.when(done).then(clipped).when(pl.col("fate") == "out of range").then(None).otherwise(number)
    unit = pl.when(done & canonical.is_not_null()).then(canonical).otherwise(pl.col("unit"))
    kind = events.schema["numeric_value"]
    return table.with_columns(numeric_value=value.cast(kind), unit=unit).select(
        *events.columns, "fate", "no_unit", "given"
    )


def implausible(code: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Return whether a value in the canonical unit lies outside what its measurement allows."""
    limits = {name: dict(measurements().select("code", name).drop_nulls().iter_rows()) for name in ("low", "high")}
    low, high = (code.replace_strict(limits[name], default=None, return_dtype=pl.Float64) for name in ("low", "high"))
    return (value < low) | (value > high)


def table(name: str) -> Traversable:
    """Return one of the tables beside this module."""
    return resources.files("experiments") / "data" / f"{name}.csv"


def lines_of(name: str) -> list[dict[str, str]]:
    """Return the lines of one of the tables beside this module."""
    text = table(name).read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))
