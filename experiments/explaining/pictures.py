"""Pictures of what modalities are worth, and of what is left without them: a small panel a modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.figures import COLOURS, GREY, STYLE, as_png, grid
from experiments.metrics import metric_name

if TYPE_CHECKING:
    from experiments.explaining.contributions import Contribution
    from experiments.explaining.removal import Removal

_SMALL: dict[str, Any] = {"fontsize": 9, "color": "#222222"}
_ACROSS = 3  # panels side by side


def values_png(rows: Sequence[Contribution], metric: str) -> bytes:
    """Draw the Shapley value of each modality with its interval, strategies below each other, the best on top."""
    strategies = list(dict.fromkeys(row.strategy for row in rows))[::-1]
    modalities = list(dict.fromkeys(row.modality for row in rows))
    figure = Figure(figsize=(1.6 + 1.8 * len(modalities), 0.9 + 0.24 * len(strategies)), layout="constrained")
    panels = figure.subplots(1, len(modalities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, colour, modality in zip(panels, COLOURS, modalities, strict=False):
        axes.axvline(0, color=GREY, linewidth=1, linestyle=":", zorder=1)
        for row in (each for each in rows if each.modality == modality):
            place = strategies.index(row.strategy)
            axes.plot([row.value.low, row.value.high], [place] * 2, color=colour, linewidth=2, zorder=2)
            axes.plot([row.value.value], [place], "o", color=colour, markersize=5, zorder=3)
        axes.set_title(modality, **STYLE)
        axes.set_yticks(range(len(strategies)), strategies, **_SMALL)
        axes.set_ylim(-0.6, len(strategies) - 0.4)
        axes.locator_params(axis="x", nbins=4)
        grid(axes, "x")
    figure.supxlabel(f"part of {metric_name(metric)} (Shapley value), 95% interval", **STYLE)
    return as_png(figure)


def curves_png(rows: Sequence[Removal], shares: Sequence[float], metric: str) -> bytes:
    """Draw the metric against how many of a modality's patients lose it: a panel a modality, a line a strategy."""
    strategies = list(dict.fromkeys(row.strategy for row in rows))
    modalities = list(dict.fromkeys(row.removed for row in rows))
    down = math.ceil(len(modalities) / _ACROSS)
    across = math.ceil(len(modalities) / down)
    figure = Figure(figsize=(1.2 + 3.1 * across, 0.9 + 2.6 * down), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    apart = 2.0 if len(strategies) < 3 else 8.0 / len(strategies)  # intervals side by side, not on each other
    for axes, modality in zip(panels, modalities, strict=False):
        mine = {row.strategy: row for row in rows if row.removed == modality}  # some read some of the modalities only
        for place, strategy in enumerate(strategies):
            if strategy not in mine:
                continue
            x = 100 * np.array(shares) + apart * (place - (len(strategies) - 1) / 2)
            _line(axes, x, mine[strategy], COLOURS[place])
        axes.set_title(f"without {modality}: {max(row.patients for row in mine.values()):,} lose it at most", **_SMALL)
        axes.set_xticks(100 * np.array(shares), [f"{share:.0%}" for share in shares], **_SMALL)
        grid(axes, "y")
    for axes in panels[len(modalities) :]:
        axes.set_visible(False)
    figure.supxlabel("share of its patients who lose it", **STYLE)
    figure.supylabel(f"{metric_name(metric)}, 95% interval", **STYLE)
    shown = [axes.get_legend_handles_labels() for axes in panels]
    named = {label: handle for handles, labels in shown for handle, label in zip(handles, labels, strict=True)}
    handles = [named[each] for each in strategies]
    figure.legend(handles, strategies, loc="outside upper left", ncols=6, frameon=False, fontsize=9)
    return as_png(figure)


def _line(axes: Any, x: Any, row: Removal, colour: str) -> None:
    axes.vlines(x, [each.low for each in row.spans], [each.high for each in row.spans], color=colour, linewidth=1.2)
    axes.plot(x, row.values, "o-", color=colour, linewidth=1.6, markersize=4, label=row.strategy)


def attributions_png(rows: Sequence[tuple[str, float, float]]) -> bytes:
    """Draw mean attributions by name as bars in the order given, with the mean without signs as a line behind them."""
    figure = Figure(figsize=(7.6, 1.2 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, mean, size) in enumerate(rows[::-1]):
        axes.plot([-size, size], [place] * 2, color=GREY, linewidth=1.4, zorder=1)
        axes.barh(place, mean, color=COLOURS[1] if mean > 0 else COLOURS[0], height=0.65, zorder=2)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows][::-1], **_SMALL)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.locator_params(axis="x", nbins=6)
    grid(axes, "x")
    axes.set_xlabel("mean attribution (bar) and its mean size (line); right raises the prediction", **_SMALL)
    return as_png(figure)


def saliency_png(regions: NDArray[Any]) -> bytes:
    """Draw where images count, over all patients. Shape: (H, W)."""
    figure = Figure(figsize=(4.6, 4), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(regions / max(float(np.max(regions)), 1e-12), cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.colorbar(drawn, ax=axes)
    bar.set_label("mean size of attribution, the largest is 1", **_SMALL)
    return as_png(figure)
