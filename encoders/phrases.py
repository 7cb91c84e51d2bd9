"""Phrases of a record's text: what a code is called, when something was, what values are and whether that is usual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from encoders.records import Measure

_UNITS = (("hour", 1.0, 48.0), ("day", 24.0, 60 * 24.0), ("month", 730.5, 2 * 8766.0), ("year", 8766.0, math.inf))
_STEADY = 0.1  # a smaller change, as a share of the larger value, is none


def name_code(code: str, descriptions: Mapping[str, str]) -> str:
    """Return a code's description in one line; without one, the code with blanks for its signs.

    Examples:
        >>> name_code("LAB//blood_gas|pH", {}), name_code("A", {"A": "Age  in years"})
        ('LAB blood gas: pH', 'Age in years')
    """
    text = descriptions.get(code) or code.replace("//", " ").replace("_", " ").replace("|", ": ")
    return " ".join(text.split())


def say_when(days: float) -> str:
    """Say how long before the prediction something happened, in the largest unit that has two of itself.

    Examples:
        >>> [say_when(days) for days in (0.02, 1 / 24, 3.0, 70, 800)]
        ['less than an hour before', '1 hour before', '3 days before', '2 months before', '2 years before']
    """
    if days == 0:
        return "at the prediction"
    hours = days * 24 * (1 + 1e-6)  # days are kept in single precision: 3 may be 2.9999998
    if hours < 1:
        return "less than an hour before"
    unit, length = next((unit, length) for unit, length, most in _UNITS if hours < most)
    count = math.floor(hours / length)
    return f"{count} {unit}{'' if count == 1 else 's'} before"


def say_values(name: str, values: Sequence[float], measure: Measure) -> str:
    """Say oldest-first values, in their unit unless the name says it, and how the last lies to what is usual.

    Examples:
        >>> say_values("sodium", [140, 131], Measure("mmol/L", 136, 145))
        '140, 131 mmol/L (low, steady; reference 136 to 145)'
        >>> say_values("CRP (mg/L)", [3.0], Measure("mg/L", None, 8.0)), say_values("urine", [80.0], Measure("mL"))
        ('3 (normal; reference up to 8)', '80 mL')
    """
    told = ", ".join(map(_number, values))
    if measure.unit and measure.unit.lower() not in name.lower():
        told += f" {measure.unit}"
    words = [*_rating(values[-1], measure), *([_trend(values)] if len(values) > 1 else [])]
    inside = "; ".join(each for each in (", ".join(words), _reference(measure)) if each)
    return f"{told} ({inside})" if inside else told


def _rating(value: float, measure: Measure) -> list[str]:
    if measure.low is None and measure.high is None:
        return []
    if measure.low is not None and value < measure.low:
        return ["low"]
    return ["high"] if measure.high is not None and value > measure.high else ["normal"]


def _reference(measure: Measure) -> str:
    low, high = (None if each is None else _number(each) for each in (measure.low, measure.high))
    if low is None:
        return "" if high is None else f"reference up to {high}"
    return f"reference from {low}" if high is None else f"reference {low} to {high}"


def _trend(values: Sequence[float]) -> str:
    change, size = values[-1] - values[0], max(abs(values[0]), abs(values[-1]))
    if abs(change) <= _STEADY * size:
        return "steady"
    return "rising" if change > 0 else "falling"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
