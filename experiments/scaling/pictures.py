"""Pictures of a scaling study: losses against size and data, and IsoFLOP curves with their lowest points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from experiments.figures import COLOURS, GREY, STYLE, as_png, grid
from experiments.scaling.findings import Findings, Point
from experiments.statistics.scaling import Surface, interval

_MARKS = "osD^vP*"


def scaling_png(found: Findings, unit: str) -> bytes:
    """Draw a panel of loss against size, one against data, and one of budgets, as far as there are cells for them."""
    shared = [each for each in found.points if each.budget is None]
    panels = (["size"] if shared else []) + ["data"] + (["isoflop"] if found.budgets else [])
    figure = Figure(figsize=(4.4 * len(panels), 4.4), layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, panel in zip(all_axes, panels, strict=True):
        if panel == "size":
            _lines(axes, shared, "data", "parameters", found.surface, unit)
            axes.set_xlabel("parameters", **STYLE)
        elif panel == "data":
            _lines(axes, found.points, "parameters", "data", found.surface, "parameters")
            axes.set_xlabel(f"{unit} seen", **STYLE)
        else:
            _isoflop(axes, found)
            axes.set_xlabel("parameters", **STYLE)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
        grid(axes, "both")
    shown = [each.loss for each in found.points] + ([found.surface.irreducible] if found.surface else [])
    margin = 0.04 * (max(shown) - min(shown))
    all_axes[0].set_ylim(min(shown) - margin, max(shown) + margin)  # of cells, whatever a curve does beyond them
    all_axes[0].set_ylabel("loss of the patients who judge", **STYLE)
    return as_png(figure)


def _lines(axes: Any, points: Sequence[Point], by: str, along: str, surface: Surface | None, unit: str) -> None:
    """Draw cells as dots, a colour for each value of `by`, and the fitted surface as lines."""
    levels = sorted({round(getattr(each, by)) for each in points})
    for place, level in enumerate(levels):
        mine = sorted((e for e in points if round(getattr(e, by)) == level), key=lambda each: getattr(each, along))
        colour, mark = COLOURS[place % len(COLOURS)], _MARKS[place % len(_MARKS)]
        x = np.array([getattr(each, along) for each in mine], float)
        axes.plot(x, [each.loss for each in mine], mark, color=colour, markersize=6, label=f"{level:,}", zorder=3)
        if surface is not None and len(x) > 1:
            fine = np.geomspace(x[0], x[-1], 60)
            fixed = np.full(60, float(level))
            fitted = surface.loss(fine, fixed) if along == "parameters" else surface.loss(fixed, fine)
            axes.plot(fine, fitted, color=colour, linewidth=1.2, alpha=0.8)
    if surface is not None and surface.irreducible > 0:
        axes.axhline(surface.irreducible, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axes.annotate(
            "irreducible",
            (0.01, surface.irreducible),
            xycoords=("axes fraction", "data"),
            color=GREY,
            fontsize=8,
            va="bottom",
        )
    axes.legend(title=unit, frameon=False, fontsize=8, title_fontsize=8, loc="best")


def _isoflop(axes: Any, found: Findings) -> None:
    for place, budget in enumerate(found.budgets):
        mine = [each for each in found.points if each.budget == budget.flops]
        colour, mark = COLOURS[place % len(COLOURS)], _MARKS[place % len(_MARKS)]
        x = np.array([each.parameters for each in mine], float)
        axes.plot(
            x, [each.loss for each in mine], mark, color=colour, markersize=6, zorder=3, label=f"{budget.flops:.2g}"
        )
        fine = np.geomspace(x.min(), x.max(), 80)
        style = "-" if budget.sizes.place is not None else ":"
        axes.plot(fine, np.polyval(budget.sizes.curve, np.log(fine)), style, color=colour, linewidth=1.2, alpha=0.8)
        if budget.sizes.place is not None:
            bounds = interval(budget.sizes.draws)
            if bounds is not None:
                ends = np.clip(bounds, x.min(), x.max())
                axes.plot(ends, [budget.sizes.loss] * 2, color=colour, linewidth=4, alpha=0.35, zorder=2)
            axes.plot([budget.sizes.place], [budget.sizes.loss], "*", color="black", markersize=11, zorder=4)
    axes.plot([], [], "*", color="black", markersize=9, label="best size, 95%")
    axes.legend(title="operations", frameon=False, fontsize=8, title_fontsize=8, loc="best")
