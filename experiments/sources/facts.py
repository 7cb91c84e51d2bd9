"""What a row of a source says: an event, or a reason why it is none."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

Why = Sequence[tuple[str, pl.Expr]]
FACT: dict[str, pl.DataType] = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "unit": pl.String(),
    "text_value": pl.String(),
    "why": pl.String(),
}
NO_TIME, NO_CODE, NO_VALUE = "no time", "no code", "no numeric value"


def facts(
    piece: pl.DataFrame,
    time: pl.Expr | None,
    code: pl.Expr,
    value: pl.Expr | None = None,
    unit: pl.Expr | None = None,
    *,
    text: pl.Expr | None = None,
    why: Why = (),
) -> pl.DataFrame:
    """Return one fact a row; `why` is null where it is an event, else the first reason against it.

    `time` is when the fact was known; None is a static fact.
    """
    reasons = [*why, (NO_CODE, code.is_null())]
    if time is not None:
        reasons.append((NO_TIME, time.is_null()))
    if value is not None:
        reasons.append((NO_VALUE, value.is_null() | value.is_nan()))
    empty = pl.lit(None)
    return piece.select(
        subject_id="subject_id",
        time=(empty if time is None else time).cast(FACT["time"]),
        code=code.cast(pl.String),
        numeric_value=(empty if value is None else value).cast(pl.Float32),
        unit=(empty if unit is None else unit).cast(pl.String),
        text_value=(empty if text is None else text).cast(pl.String),
        why=pl.coalesce([pl.when(test.fill_null(value=False)).then(pl.lit(reason)) for reason, test in reasons]),
    )


def end_of_day(date: pl.Expr) -> pl.Expr:
    """Return the last second of a day: what bears a date only is known for certain when the day is over."""
    return date.dt.truncate("1d") + pl.duration(hours=24) - pl.duration(seconds=1)


def later(*times: str) -> pl.Expr:
    """Return the latest of the times that are there: when the row was charted and when it was stored."""
    return pl.max_horizontal(*times)


def worded(text: pl.Expr) -> pl.Expr:
    """Return a text as part of a code: lower case, single blanks, no slashes that separate.

    Examples:
        >>> pl.DataFrame({"n": ["  Heparin // Sodium "]}).select(worded(pl.col("n"))).item()
        'heparin / sodium'
    """
    name = text.str.to_lowercase().str.replace_all(r"\s+", " ").str.replace_all(r"/{2,}", "/").str.strip_chars()
    return pl.when(name == "").then(None).otherwise(name)


def path(prefix: str, *names: pl.Expr) -> pl.Expr:
    """Return a code whose parts, general first, are parted by bars; absent ones are left out."""
    parts = [worded(name).str.replace_all("|", "/", literal=True) for name in names]
    whole = pl.concat_str(parts, separator="|", ignore_nulls=True)
    return pl.when(whole == "").then(None).otherwise(pl.lit(f"{prefix}//") + whole)
