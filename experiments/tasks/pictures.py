"""The flow of a cohort as CONSORT draws it: boxes downwards, and to the right who was left out at each step."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from experiments.figures import COLOURS, GREY, as_png
from experiments.tasks.disclosure import BELOW, HIDDEN, shown_flow

_WIDTH, _LINE, _PAD, _GAP = 58, 0.21, 0.2, 0.3  # characters; inches
_MAIN, _SIDE = (0.15, 4.75), (5.3, 7.25)  # from where to where boxes stand, in inches


def flow_figure(title: str, flow: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the steps of a flow; steps that leave nobody out are named, without a box at the side."""
    steps = shown_flow(flow)
    texts = [_wrapped(step["step"]) + _counts(step) for step in steps]
    texts[-1] += f", {steps[-1]['positive']} positive" if "positive" in steps[-1] else ""
    heights = [_PAD + _LINE * (text.count("\n") + 1) for text in texts]
    total = sum(heights) + _GAP * (len(steps) - 1) + 0.6
    figure = Figure(figsize=(7.4, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, 7.4)
    axes.set_ylim(total, 0)
    axes.text(_MAIN[0], 0.26, title, fontsize=12, fontweight="bold", color="#222222", va="center")
    top = 0.5
    for place, (step, text, height) in enumerate(zip(steps, texts, heights, strict=True)):
        last = place == len(steps) - 1
        _box(axes, _MAIN, top, height, text, COLOURS[2] if last else COLOURS[0])
        if place:
            middle = (_MAIN[0] + _MAIN[1]) / 2
            _arrow(axes, (middle, top - _GAP), (middle, top))
            if step.get("left_out", "0") != "0":
                aside = top - _GAP / 2
                _arrow(axes, (middle, aside), (_SIDE[0], aside))
                _box(axes, _SIDE, aside - 0.2, 0.4, _left_out(step["left_out"]), GREY)
        top += height + _GAP
    return figure


def flow_png(title: str, flow: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the drawing as a PNG."""
    return as_png(flow_figure(title, flow))


def flow_svg(title: str, flow: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the drawing as an SVG."""
    figure = flow_figure(title, flow)
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _counts(step: Mapping[str, str]) -> str:
    if step["n"] == HIDDEN:
        return "\n(counts not shown: near a small one)"
    return f"\n{step['n']} rows, {step['patients']} patients"


def _left_out(count: str) -> str:
    return {BELOW: "left out: counted below", HIDDEN: "left out: not shown"}.get(count, f"{count} rows left out")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text[0].upper() + text[1:], _WIDTH))


def _box(axes: Any, across: tuple[float, float], top: float, height: float, text: str, colour: str) -> None:
    left, right = across
    style = "round,pad=0,rounding_size=0.06"
    box = FancyBboxPatch((left, top), right - left, height, style, facecolor="white", edgecolor=colour, linewidth=1.4)
    axes.add_patch(box)
    axes.text(left + 0.12, top + height / 2, text, fontsize=9.5, color="#222222", va="center", linespacing=1.35)


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    )
