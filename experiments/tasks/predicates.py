"""Which events a predicate means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import polars as pl

from experiments.tasks.definition import Predicate, Value

_TESTS = {"above": "gt", "at_least": "ge", "below": "lt", "at_most": "le"}


@cache
def pattern(text: str) -> re.Pattern[str]:
    """Return what a pattern of codes means: `*` is any text, all else itself, capitals do not matter.

    Examples:
        >>> bool(pattern("UNIT_ADMISSION*").fullmatch("unit_admission//MICU")), bool(pattern("A").fullmatch("AB"))
        (True, False)
    """
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.IGNORECASE | re.DOTALL)


def meant(predicate: Predicate, codes: Iterable[str]) -> list[str]:
    """Return those of some codes that a predicate means."""
    wanted, unwanted = ([pattern(each) for each in texts] for texts in (predicate.codes, predicate.but_not))
    return [
        code
        for code in codes
        if any(each.fullmatch(code) for each in wanted) and not any(each.fullmatch(code) for each in unwanted)
    ]


def fits(value: Value | None) -> pl.Expr:
    """Return whether an event's number is as wanted; without a wish every event fits."""
    if value is None:
        return pl.lit(value=True)
    number = pl.col("numeric_value").cast(pl.Float64)
    tests = [getattr(number, _TESTS[name])(limit) for name, limit in value.model_dump(exclude_none=True).items()]
    return pl.all_horizontal(number.is_finite(), *tests).fill_null(value=False)
