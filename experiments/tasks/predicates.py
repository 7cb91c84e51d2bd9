"""Which events a predicate means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import polars as pl

from experiments.tasks.definition import Predicate, Value

_TESTS = {"above": "gt", "at_least": "ge", "below": "lt", "at_most": "le"}


@cache
def pattern(*texts: str) -> re.Pattern[str]:
    """Return what patterns of codes mean, any of them: `*` is any text, all else itself, capitals do not matter.

    Examples:
        >>> bool(pattern("UNIT_ADMISSION*").fullmatch("unit_admission//MICU")), bool(pattern("A").fullmatch("AB"))
        (True, False)
        >>> bool(pattern().fullmatch("A"))
        False
    """
    parts = [re.escape(text).replace(r"\*", ".*") for text in texts]
    return re.compile("|".join(parts) if parts else r"(?!)", re.IGNORECASE | re.DOTALL)


def meant(predicate: Predicate, codes: Iterable[str]) -> list[str]:
    """Return those of some codes that a predicate means."""
    wanted, unwanted = pattern(*predicate.codes), pattern(*predicate.but_not)
    return [code for code in codes if wanted.fullmatch(code) and not unwanted.fullmatch(code)]


def fits(value: Value | None) -> pl.Expr:
    """Return whether an event's number is as wanted; without a wish every event fits."""
    if value is None:
        return pl.lit(value=True)
    number = pl.col("numeric_value").cast(pl.Float64)
    tests = [getattr(number, _TESTS[name])(limit) for name, limit in value.model_dump(exclude_none=True).items()]
    return pl.all_horizontal(number.is_finite(), *tests).fill_null(value=False)
