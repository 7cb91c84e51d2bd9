"""Small drawings in the rows of a table: intervals on one scale, bars. They take the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from experiments.reporting.page import text
from experiments.reporting.table import Drawn

WIDTH, HEIGHT = 240, 46
_EDGE = 16  # room for half a label of the axis


class Scale(NamedTuple):
    """Which values a drawing spans, and where its ticks are."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> Scale:
        """Return the scale that holds all finite values, with round ticks."""
        finite = [each for each in values if math.isfinite(each)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        room = 0.04 * (high - low) or 0.1
        low, high = low - room, high + room
        ticks = [
            float(each)
            for each in MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
            if low <= each <= high
        ]
        return cls(low, high, tuple(ticks))

    def x(self, value: float) -> float:
        """Return where a value is drawn, in pixels."""
        return round(_EDGE + (value - self.low) / (self.high - self.low) * (WIDTH - 2 * _EDGE), 1)


def axis(scale: Scale, *, signed: bool = False) -> Drawn:
    """Draw the labels of the ticks, as the head of a column."""
    labels = "".join(
        f"<text class='small' x='{scale.x(tick)}' y='14' text-anchor='middle'>{_label(tick, signed)}</text>"
        for tick in scale.ticks
    )
    return Drawn(f"<svg width='{WIDTH}' height='20' aria-hidden='true'>{labels}</svg>")


def interval(
    scale: Scale,
    value: float,
    low: float,
    high: float,
    said: str,
    *,
    kind: str = "other",
    points: Sequence[float] = (),
    reference: float | None = None,
) -> Drawn:
    """Draw a value with its interval and smaller points below; `reference` is a dashed line.

    Args:
        said: what it shows, in words.
        kind: the class of its colour and, of a strategy, the shape of its mark.
    """
    parts = [_line(scale.x(tick), "grid") for tick in scale.ticks]
    if reference is not None and scale.low <= reference <= scale.high:
        parts.append(_line(scale.x(reference), "zero"))
    middle = HEIGHT / 2 - (4 if points else 0)
    if math.isfinite(low) and math.isfinite(high):
        parts.append(f"<line class='span' x1='{scale.x(low)}' x2='{scale.x(high)}' y1='{middle}' y2='{middle}'/>")
    parts += [
        f"<circle class='seed' cx='{scale.x(each)}' cy='{middle + 13}' r='2.2'/>"
        for each in points
        if math.isfinite(each)
    ]
    if math.isfinite(value):
        parts.append(_mark(kind, scale.x(value), middle))
    return Drawn(_svg("".join(parts), said, kind))


def bar(scale_to: float, value: float, said: str) -> Drawn:
    """Draw a value as a bar from zero; `scale_to` fills the width."""
    share = value / scale_to if scale_to > 0 else 0.0
    width = max(1.0, round(share * (WIDTH - _EDGE), 1))
    return Drawn(_svg(f"<rect class='bar' x='0' y='{HEIGHT / 2 - 6}' width='{width}' height='12' rx='2'/>", said, ""))


def _svg(parts: str, said: str, kind: str) -> str:
    label = text(said)
    opening = f"<svg class='{kind}' role='img' aria-label='{label}' width='{WIDTH}' height='{HEIGHT}'>"
    return f"{opening}<title>{label}</title>{parts}</svg>"


def _mark(kind: str, x: float, y: float) -> str:
    """Draw a mark whose shape says what its colour says: a disc, a square, a diamond, a triangle."""
    if kind == "modality":
        return f"<rect class='mark' x='{x - 5}' y='{y - 5}' width='10' height='10'/>"
    if kind == "control":
        return f"<path class='mark' d='M{x},{y - 7} l7,7 l-7,7 l-7,-7 z'/>"
    if kind == "without":
        return f"<path class='mark' d='M{x},{y - 6.5} l7,12 h-14 z'/>"
    return f"<circle class='mark dot' cx='{x}' cy='{y}' r='5.5'/>"


def _line(x: float, kind: str) -> str:
    return f"<line class='{kind}' x1='{x}' x2='{x}' y1='0' y2='{HEIGHT}'/>"


def _label(tick: float, signed: bool) -> str:
    found = f"{tick:{'+' if signed and tick else ''}.4g}"
    return found.replace("-", "\u2212")
