"""Tables of a page: escaped, with headers for those who hear them, long ones folded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.reporting.page import folded, text, wide
from experiments.statistics.intervals import Interval

UNDEFINED = "not defined"
_FIRST = 8  # rows of a long table that are not folded


class Drawn(NamedTuple):
    """A cell that is markup already: a drawing."""

    markup: str


class Stacked(NamedTuple):
    """A cell of two lines: a number, and what is said about it."""

    number: str
    about: str


def table(heads: Sequence[Any], rows: Sequence[Sequence[Any]], *, name: str = "", fold: bool = False) -> str:
    """Return a table; its cells are escaped, the first of a row is its header.

    Args:
        name: what it is, for those who hear it.
        fold: whether only the first rows of a long one are seen at once.
    """
    if not rows:
        return "<p>None.</p>"
    said = name or f"table by {heads[0]}"
    if fold and len(rows) > _FIRST + 2:
        rest = _whole(heads, rows[_FIRST:])
        return wide(_whole(heads, rows[:_FIRST]), said) + folded(
            f"{len(rows) - _FIRST} more rows", [wide(rest, f"{said}, the rest")]
        )
    return wide(_whole(heads, rows), said)


def facts(pairs: Mapping[str, Any]) -> str:
    """Return a table of names and values; what is not known is left out."""
    rows = "".join(
        f"<tr><th scope='row'>{text(name)}</th><td>{_fact(str(value))}</td></tr>"
        for name, value in pairs.items()
        if value
    )
    return f"<table class='facts'><tbody>{rows}</tbody></table>"


def _fact(value: str) -> str:
    """Return words as words, and a hash as code."""
    return text(value) if " " in value else f"<code>{text(value)}</code>"


def in_digits(value: Any) -> str | Stacked:
    """Return a value as it is printed: three decimals of a number that is not whole, an interval below its value."""
    if isinstance(value, Interval):
        known = math.isfinite(value.value) and (math.isfinite(value.low) or math.isfinite(value.high))
        span = f"{_bound(value.low)} to {_bound(value.high)}"
        return Stacked(_decimals(value.value), span) if known else _decimals(value.value)
    return _decimals(value)


def _bound(value: float) -> str:
    return f"{value:z.3f}" if math.isfinite(value) else "no bound"


def _decimals(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:z.3f}" if math.isfinite(value) else UNDEFINED


def probability(p: float) -> str:
    """Return a p value as it is printed."""
    if not math.isfinite(p):
        return UNDEFINED
    return f"{p:.3f}" if p >= 0.0005 else "below 0.001"


def _whole(heads: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(_head(each) for each in heads)
    body = "".join(
        "<tr>"
        + f"<th scope='row'>{_content(first)}</th>"
        + "".join(f"<td{_kind(cell)}>{_content(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _head(head: Any) -> str:
    return f"<th scope='col'{_kind(head)}>{_content(head)}</th>"


def _kind(cell: Any) -> str:
    if isinstance(cell, Drawn):
        return " class='drawn'"
    return (
        " class='number'"
        if (cell.number if isinstance(cell, Stacked) else str(cell))[:1] in tuple("+-0123456789")
        else ""
    )


def _content(cell: Any) -> str:
    if isinstance(cell, Drawn):
        return cell.markup
    if isinstance(cell, Stacked):
        return f"{text(cell.number)}<small>{text(cell.about)}</small>"
    return text(cell)
