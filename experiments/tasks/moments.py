"""Moments and intervals as tasks write them: `predict + 24h`, `(predict, next hospital_discharge]`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_DURATION = r"\d+(?:\.\d+)?\s*(?:min|h|d)"
_MOMENT = re.compile(rf"(start|end|predict|ever|forever|(?:next|last)\s+(\w+))(?:\s*([+-])\s*({_DURATION}))?")
_WANTED = "start, end, predict, 'next EVENT' or 'last EVENT', with + or - a duration like 24h; or ever, forever"


class Moment(NamedTuple):
    """A time of a row: an anchor, the event it names if any, and a shift."""

    anchor: str
    event: str | None
    shift: timedelta


class Interval(NamedTuple):
    """All times between two moments; a bound is part of it or not."""

    low: Moment
    high: Moment
    with_low: bool
    with_high: bool


class Order(NamedTuple):
    """The first moment lies before the second, or may coincide with it."""

    first: Moment
    second: Moment
    strict: bool


def duration(text: str) -> timedelta:
    """Read a duration.

    Examples:
        >>> duration("90min") == duration("1.5h"), duration("30 d").days
        (True, 30)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(min|h|d)\s*", text)
    if found is None:
        raise ValueError(f"a duration is a number with min, h or d, like 24h; got '{text}'")
    return float(found[1]) * _UNITS[found[2]]


def moment(text: str) -> Moment:
    """Read a moment.

    Examples:
        >>> moment("next hospital_discharge - 1d").event
        'hospital_discharge'
    """
    found = _MOMENT.fullmatch(text.strip())
    if found is None or (found[1] in ("ever", "forever") and found[3]):
        raise ValueError(f"a moment is {_WANTED}; got '{text}'")
    shift = duration(found[4]) if found[4] else timedelta(0)
    return Moment(found[1].split()[0], found[2], -shift if found[3] == "-" else shift)


def interval(text: str) -> Interval:
    """Read an interval: a round bracket leaves its bound out, a square one takes it in.

    Examples:
        >>> found = interval("(predict, end]")
        >>> found.with_low, found.with_high, found.high.anchor
        (False, True, 'end')
    """
    found = re.fullmatch(r"\s*([\[(])([^,]+),([^,]+)([\])])\s*", text)
    if found is None:
        raise ValueError(f"an interval is two moments in brackets, like (predict, end]; got '{text}'")
    return Interval(moment(found[2]), moment(found[3]), found[1] == "[", found[4] == "]")


def order(text: str) -> Order:
    """Read an order of two moments.

    Examples:
        >>> order("predict < end").strict
        True
    """
    found = re.fullmatch(r"([^<]+)(<=?)([^<=]+)", text)
    if found is None:
        raise ValueError(f"an order is two moments with < or <= between, like predict < end; got '{text}'")
    return Order(moment(found[1]), moment(found[3]), found[2] == "<")


def _checked(read: object) -> AfterValidator:
    def check(text: str) -> str:
        read(text)  # type: ignore[operator]
        return text

    return AfterValidator(check)


DurationText = Annotated[str, _checked(duration)]
MomentText = Annotated[str, _checked(moment)]
IntervalText = Annotated[str, _checked(interval)]
OrderText = Annotated[str, _checked(order)]
