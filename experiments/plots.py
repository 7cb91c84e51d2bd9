"""Pictures of results, drawn without any global state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.comparison import KINDS
from experiments.figures import COLOURS, GREY, STYLE, as_png, grid
from experiments.metrics import auroc, metric_name
from experiments.statistics.shares import wilson

if TYPE_CHECKING:
    from experiments.comparison import Comparison
    from experiments.race import Anytime

Array = NDArray[Any]
_KINDS = {"modality": "single modality", "without": "all modalities but one"}


def forest_png(comparison: Comparison, reference: float | None = None, reference_label: str = "") -> bytes:
    """Draw each strategy's value, interval and seeds; `reference` marks, say, the best possible value."""
    rows = list(reversed(comparison.ranking()))
    colours = dict(zip(KINDS, COLOURS, strict=False))
    figure = Figure(figsize=(8, 1.1 + 0.45 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        colour = colours.get(row.kind, GREY)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.5, solid_capstyle="round", zorder=2)
        below = [place - 0.24] * len(row.seeds)
        axes.plot(row.seeds, below, "o", color=colour, alpha=0.55, markersize=3.5, markeredgewidth=0, zorder=3)
        axes.plot([row.value], [place], "o", color=colour, markersize=8, zorder=4)
        defined = math.isfinite(row.value)
        label = f"{row.value:.3f}  ({row.low:.3f} to {row.high:.3f})" if defined else "not defined"
        axes.annotate(
            label, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color="#222222"
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows], **STYLE)
    if comparison.metric.startswith("auroc"):
        axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":", zorder=1)
        axes.annotate(" chance", (0.5, -0.55), color=GREY, fontsize=9, va="bottom")
    if reference is not None:
        axes.axvline(reference, color=COLOURS[2], linewidth=1.5, linestyle="--", zorder=1)
        axes.annotate(f"{reference_label} ", (reference, -0.55), color=COLOURS[2], fontsize=9, va="bottom", ha="right")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(
        f"{metric_name(comparison.metric)} on held-out patients, 95% interval; small dots are seeds", **STYLE
    )
    for kind, colour in colours.items():
        if any(row.kind == kind for row in rows):
            axes.plot([], [], "o-", color=colour, label=_KINDS.get(kind, kind))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    return _png(figure, axes)


def table_png(rows: Sequence[str], columns: Sequence[str], values: Array, best: Array) -> bytes:
    """Draw a table of scores in which the shade is how far a score is from chance to the best possible of its column.

    Shape:
        values (R, C), NaN where there is none; best (C,).
    """
    room = np.where(best > 0.55, best - 0.5, np.nan)  # where nothing can be found there is nothing to shade
    share = np.clip((values - 0.5) / room, 0, 1)
    figure = Figure(figsize=(2.6 + 1.05 * len(columns), 0.9 + 0.27 * (len(rows) + 1)), layout="constrained")
    axes = figure.add_subplot()
    whole = np.vstack([np.where(np.isfinite(room), 1.0, np.nan), share])
    axes.imshow(np.ma.masked_invalid(whole), cmap="Blues", vmin=0, vmax=1.8, aspect="auto")
    for place, line in enumerate(np.vstack([best, values])):
        for column, value in enumerate(line):
            if np.isfinite(value):
                axes.annotate(f"{value:.3f}", (column, place), ha="center", va="center", fontsize=8.5, color="#111111")
    axes.set_xticks(range(len(columns)), columns, **STYLE)
    axes.set_yticks(range(len(rows) + 1), ["best possible", *rows], **STYLE)
    axes.xaxis.tick_top()
    axes.axhline(0.5, color=GREY, linewidth=1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _png(figure)


def progress_png(points: Sequence[dict[str, Any]], metric: str, maximise: bool) -> bytes:
    """Draw the score of every trial by fusion and the best so far; pruned ones and those over limits are hollow.

    Args:
        points: number, score, fusion and pruned of each trial, in order.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.add_subplot()
    fusions = sorted({point["fusion"] for point in points})
    for colour, fusion in zip(COLOURS * 9, fusions, strict=False):
        for pruned in (False, True):
            mine = [point for point in points if point["fusion"] == fusion and point["pruned"] == pruned]
            if mine:
                axes.scatter(
                    [point["number"] for point in mine],
                    [point["score"] for point in mine],
                    s=34,
                    facecolors="none" if pruned else colour,
                    edgecolors=colour,
                    label=fusion if not pruned else f"{fusion}, cut",
                    zorder=3,
                )
    best, line = None, []
    for point in points:
        if not point["pruned"] and (best is None or (point["score"] > best) == maximise):
            best = point["score"]
        line.append(best if best is not None else float("nan"))
    axes.step(
        [point["number"] for point in points],
        line,
        where="post",
        color=GREY,
        linewidth=1.5,
        zorder=2,
        label="best so far",
    )
    axes.set_xlabel("trial", **STYLE)
    axes.set_ylabel(f"tuning {metric_name(metric)}", **STYLE)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    return _png(figure, axes)


def front_png(points: Sequence[tuple[Sequence[float], bool]], names: Sequence[str]) -> bytes:
    """Draw the first objective against each of the others; trials of the front are filled.

    Args:
        points: the objectives of each trial, and whether it is on the front.
    """
    others = len(names) - 1
    figure = Figure(figsize=(min(12, 4.2 * others), 3.6), layout="constrained")
    for place in range(1, others + 1):
        axes = figure.add_subplot(1, others, place)
        for on_front in (False, True):
            mine = [values for values, here in points if here == on_front]
            axes.scatter(
                [each[place] for each in mine],
                [each[0] for each in mine],
                s=34,
                facecolors=COLOURS[0] if on_front else "none",
                edgecolors=COLOURS[0],
                label="on the front" if on_front else "beaten",
            )
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(names[place], **STYLE)
        axes.set_ylabel(f"tuning {metric_name(names[0])}" if place == 1 else "", **STYLE)
        axes.legend(frameon=False, fontsize=8)
    return _png(figure)


def anytime_png(curves: Sequence[tuple[str, Anytime]], metric: str) -> bytes:
    """Draw the best score so far by epochs trained: a thin line a search, a thick one a method's mean."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    methods = list(dict.fromkeys(name for name, _ in curves))
    for colour, method in zip(COLOURS * 9, methods, strict=False):
        mine = [curve for name, curve in curves if name == method]
        places = np.unique(np.concatenate([curve.epochs for curve in mine]))
        lines = []
        for curve in mine:
            axes.step(curve.epochs, curve.best, where="post", color=colour, linewidth=0.8, alpha=0.45)
            found = curve.best[np.maximum(np.searchsorted(curve.epochs, places, side="right") - 1, 0)]
            lines.append(np.where(places >= curve.epochs[0], found, np.nan))
        whole = np.isfinite(lines).all(0)  # a mean of some searches only would jump
        axes.step(places[whole], np.mean(lines, axis=0)[whole], where="post", color=colour, linewidth=2.4, label=method)
    axes.set_xlabel("epochs trained, all trials together", **STYLE)
    axes.set_ylabel(f"best tuning {metric_name(metric)} so far", **STYLE)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return _png(figure, axes)


def importance_png(importance: dict[str, float]) -> bytes:
    """Draw how much each choice mattered for the score."""
    names = list(importance)[:12][::-1]
    figure = Figure(figsize=(8, 0.8 + 0.3 * max(1, len(names))), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(names)), [importance[name] for name in names], color=COLOURS[0], height=0.65)
    axes.set_yticks(range(len(names)), names, **STYLE)
    axes.set_xlabel("share of what it took to be among the best", **STYLE)
    return _png(figure, axes)


def roc_png(target: Array, predictions: Mapping[str, Array]) -> bytes:
    """Draw the ROC curve of each named prediction of the same patients.

    Shape:
        target and each prediction (N,).
    """
    figure = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for colour, (name, prediction) in zip(COLOURS * 9, predictions.items(), strict=False):
        order = np.argsort(-prediction, kind="stable")
        last = np.flatnonzero(np.append(np.diff(prediction[order]) != 0, True))  # a tie is one step
        hits, misses = np.cumsum(target[order] > 0)[last], np.cumsum(target[order] <= 0)[last]
        x, y = np.append(0, misses) / max(1, misses[-1]), np.append(0, hits) / max(1, hits[-1])
        label = f"{name}, {auroc(target, prediction, np.ones(len(target))):.3f}"
        axes.plot(x, y, color=colour, linewidth=2, label=label)
    axes.set_aspect("equal")
    axes.set_xlabel("share of negatives called positive", **STYLE)
    axes.set_ylabel("share of positives found", **STYLE)
    axes.legend(loc="lower right", frameon=False, fontsize=9, title="AUROC", title_fontsize=9)
    return _png(figure, axes)


def calibration_png(target: Array, prediction: Array, bins: int = 10) -> bytes:
    """Draw observed against predicted risk in bins of equal width, with Wilson intervals and counts.

    Shape:
        target and prediction (N,).
    """
    place = np.clip((prediction * bins).astype(int), 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = np.flatnonzero(counts)
    n = counts[used]
    predicted = np.bincount(place, prediction, bins)[used] / n
    observed = np.bincount(place, target, bins)[used] / n
    low, high = wilson(observed, n)
    figure = Figure(figsize=(5.2, 6), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.vlines(predicted, low, high, color=COLOURS[0], alpha=0.5, linewidth=2)
    axes.plot(predicted, observed, "o-", color=COLOURS[0], linewidth=1.5, markersize=6)
    axes.set_ylabel("observed share, 95% interval", **STYLE)
    axes.set_ylim(-0.03, 1.03)
    bars = below.bar((used + 0.5) / bins, n, width=0.92 / bins, color=COLOURS[0], alpha=0.6)
    below.bar_label(bars, fontsize=8, padding=1)
    below.margins(y=0.25)
    below.set_ylabel("patients", **STYLE)
    below.set_xlabel("predicted risk", **STYLE)
    below.spines[["top", "right"]].set_visible(False)
    return _png(figure, axes)


def availability_png(patterns: Mapping[tuple[str, ...], int], modalities: Sequence[str]) -> bytes:
    """Draw how many patients have which modalities: a bar a pattern, and dots for what it holds."""
    ranked = sorted(patterns.items(), key=lambda item: -item[1])[:20][::-1]
    total = max(1, sum(patterns.values()))
    figure = Figure(figsize=(8, 1.0 + 0.32 * len(ranked)), layout="constrained")
    dots, axes = figure.subplots(1, 2, sharey=True, width_ratios=[0.6 * len(modalities), 5])
    for place, (held, _) in enumerate(ranked):
        found = [i for i, name in enumerate(modalities) if name in held]
        dots.plot(range(len(modalities)), [place] * len(modalities), "o", color="#dddddd", markersize=8)
        dots.plot(found, [place] * len(found), "o-", color=COLOURS[0], markersize=8)
    dots.set_xticks(range(len(modalities)), modalities, rotation=35, ha="right", **STYLE)
    dots.set_xlim(-0.6, len(modalities) - 0.4)
    dots.set_yticks([])
    dots.spines[:].set_visible(False)
    bars = axes.barh(range(len(ranked)), [count for _, count in ranked], color=COLOURS[0], height=0.6)
    labels = [f"{count:,}  ({count / total:.0%})" for _, count in ranked]
    axes.bar_label(bars, labels, fontsize=9, padding=4)
    axes.margins(x=0.2)
    axes.tick_params(left=False)
    axes.set_xlabel("patients", **STYLE)
    return _png(figure, axes)


def _png(figure: Figure, axes: Any = None) -> bytes:
    if axes is not None:
        grid(axes, "x")
    return as_png(figure)
