"""Pictures: synthetic rows beside patients, errors of filling in, and how well planted errors are found."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import COLOURS, GREY, STYLE, as_png, grid
from experiments.generative.anomaly import SCORERS, Anomalies
from experiments.generative.planting import KINDS
from experiments.generative.synthesis import Synthesis, correlations
from experiments.generative.vectors import Vectors

_PANELS = 4  # numbers of which the distribution is shown
_SMALL: dict[str, Any] = {"fontsize": 9, "color": "#222222"}


def synthesis_png(found: Synthesis) -> bytes:
    """Draw shares of flags, correlations, and distributions of the numbers that most patients have."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    _flags(panels[0], found.real, found.rows)
    _pairs(panels[1], found.real, found.rows)
    shown = _numbers(found.real)
    for axes, place in zip(panels[2:], shown, strict=False):
        _distribution(axes, found, place)
    for axes in panels[2 + len(shown) :]:
        axes.set_axis_off()
    handles, labels = panels[2].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return as_png(figure)


def anomalies_png(found: Anomalies) -> bytes:
    """Draw for each kind of planted error how well each way tells it, with its interval."""
    trials = [trial for trial in found.trials if trial.scores]
    figure = Figure(figsize=(7.5, 1.3 + 0.75 * max(1, len(trials))), layout="constrained")
    axes = figure.add_subplot()
    for place, trial in enumerate(reversed(trials)):
        for i, (name, score) in enumerate(trial.scores.items()):
            height, bounds = place + 0.22 * (1 - i), score.interval
            label = SCORERS[name] if place == 0 else None
            axes.plot([bounds.low, bounds.high], [height] * 2, color=COLOURS[i], linewidth=2.5, zorder=2)
            axes.plot([bounds.value], [height], "osD"[i], color=COLOURS[i], markersize=7, label=label, zorder=3)
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":", zorder=1)
    axes.annotate(" chance", (0.5, len(trials) - 0.55), color=GREY, fontsize=9)
    axes.set_yticks(range(len(trials)), [KINDS[trial.kind] for trial in reversed(trials)], **STYLE)
    axes.set_ylim(-0.6, max(1, len(trials)) - 0.4)
    axes.set_xlim(right=1.01)
    axes.set_xlabel("AUROC of copies with the error against the records themselves, 95% interval", **STYLE)
    if trials:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    grid(axes, "x")
    return as_png(figure)


def _flags(axes: Any, real: Vectors, rows: Vectors) -> None:
    flags = [place for place, column in enumerate(real.columns) if column.flag]
    _diagonal(axes, 0, 1)
    axes.plot(
        real.values[:, flags].mean(0), rows.values[:, flags].mean(0), "o", color=COLOURS[0], alpha=0.7, markersize=4
    )
    axes.set_title("share of rows with a code or label", **STYLE)
    _sides(axes)


def _pairs(axes: Any, real: Vectors, rows: Vectors) -> None:
    first, second = correlations(real), correlations(rows)
    upper = np.triu_indices(len(first), 1)
    both = np.isfinite(first[upper]) & np.isfinite(second[upper])
    _diagonal(axes, -1, 1)
    axes.plot(first[upper][both], second[upper][both], ".", color=COLOURS[0], alpha=0.25, markersize=4, rasterized=True)
    axes.set_title("correlation of two columns", **STYLE)
    _sides(axes)


def _numbers(vectors: Vectors) -> list[int]:
    """Return the numbers of measurements that most rows have."""
    places = [i for i, column in enumerate(vectors.columns) if not column.flag and column.part == "codes"]
    there = np.isfinite(vectors.values).sum(0)
    return sorted(places, key=lambda place: -there[place])[:_PANELS]


def _distribution(axes: Any, found: Synthesis, place: int) -> None:
    mine, made = found.real.values[:, place], found.rows.values[:, place]
    mine, made = mine[np.isfinite(mine)], made[np.isfinite(made)]
    low, high = np.quantile(mine, [0.005, 0.995])
    bins = np.linspace(low, high if high > low else low + 1, 31)
    axes.hist(mine, bins, density=True, color=COLOURS[0], alpha=0.35, label="training patients")
    if len(made):
        axes.hist(made, bins, density=True, color=COLOURS[1], histtype="step", linewidth=1.8, label="synthetic rows")
    axes.set_title(found.real.columns[place].name, **STYLE)
    axes.set_yticks([])
    grid(axes, "x")


def _diagonal(axes: Any, low: float, high: float) -> None:
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=":", zorder=1)


def _sides(axes: Any) -> None:
    axes.set_xlabel("training patients", **_SMALL)
    axes.set_ylabel("synthetic rows", **_SMALL)
    grid(axes, "both")
