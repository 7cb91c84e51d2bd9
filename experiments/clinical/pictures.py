"""Pictures of what clinicians ask: a colour a strategy, bands of 95% over patients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from experiments.figures import COLOURS, GREY, STYLE, as_png
from experiments.statistics.intervals import Interval

Array = NDArray[Any]


class Curve(NamedTuple):
    """A calibration curve: the mean risk of each bin, the share of events in it, and everybody's risks by seed."""

    label: str
    risks: Sequence[float]
    shares: Sequence[Interval]
    predictions: Sequence[Array]


class Worth(NamedTuple):
    """Net benefit of a strategy at each threshold."""

    label: str
    spans: Sequence[Interval]


def calibration_png(curves: Sequence[Curve]) -> bytes:
    """Draw a panel a strategy: observed share by predicted risk with its band, and who has which risk below."""
    figure = Figure(figsize=(1.2 + 3.3 * len(curves), 4.7), layout="constrained")
    tops, bottoms = np.atleast_2d(
        figure.subplots(2, len(curves), sharex=True, sharey="row", height_ratios=[4, 1], squeeze=False)
    )
    risks = [risk for curve in curves for risk in curve.risks]
    top = min(1.0, 1.05 * float(np.nanmax([span.high for curve in curves for span in curve.shares] + risks)))
    bottom = 0.95 * float(np.nanmin([span.low for curve in curves for span in curve.shares] + risks))
    for axes, below, curve, colour in zip(tops, bottoms, curves, COLOURS, strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
        low, value, high = np.array([[each.low, each.value, each.high] for each in curve.shares]).T
        axes.fill_between(curve.risks, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.vlines(curve.risks, low, high, color=colour, alpha=0.35, linewidth=1.2)
        axes.plot(curve.risks, value, "o-", color=colour, linewidth=1.6, markersize=5)
        axes.set_title(curve.label, **STYLE)
        axes.set_xlim(bottom - 0.02 * top, top)
        axes.set_ylim(bottom - 0.02 * top, top)
        below.hist(
            np.concatenate(curve.predictions), bins=np.linspace(bottom, top, 41).tolist(), color=colour, alpha=0.6
        )
        below.set_xlabel("predicted risk", **STYLE)
        below.set_yticks([])
        _open(axes)
        _open(below)
    tops[0].set_ylabel("share with the event, 95% band", **STYLE)
    bottoms[0].set_ylabel("patients", **STYLE)
    return as_png(figure)


def decision_png(thresholds: Array, curves: Sequence[Worth], everybody: Sequence[float]) -> bytes:
    """Draw net benefit by threshold: strategies with bands, treating everybody, treating nobody."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="#222222", linewidth=1.2, label="treat nobody")
    axes.plot(thresholds, everybody, color=GREY, linewidth=1.5, linestyle="--", label="treat everybody", zorder=3)
    top = max([each.high for curve in curves for each in curve.spans if np.isfinite(each.high)] + [1e-3])
    for curve, colour in zip(curves, COLOURS, strict=False):
        low, value, high = np.array([[each.low, each.value, each.high] for each in curve.spans]).T
        axes.fill_between(thresholds, low, high, color=colour, alpha=0.12, linewidth=0)
        axes.plot(thresholds, value, color=colour, linewidth=2, label=curve.label)
    axes.set_ylim(-0.25 * top, 1.05 * top)
    axes.set_xlim(0, float(thresholds[-1]))
    axes.set_xlabel("risk from which patients are treated", **STYLE)
    axes.set_ylabel("net benefit (events found, per patient)", **STYLE)
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    _open(axes)
    return as_png(figure)


def groups_png(groups: Sequence[tuple[str, Sequence[Interval]]], labels: Sequence[str], metric: str) -> bytes:
    """Draw the metric of each group of patients with its interval: a line a group, a dot a strategy."""
    shown = groups[::-1]
    figure = Figure(figsize=(8, 1.2 + (0.14 + 0.12 * len(labels)) * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for number, (label, colour) in enumerate(zip(labels, COLOURS, strict=False)):
        shift = 0.5 * (0.5 - (number + 0.5) / len(labels))
        for place, (_, spans) in enumerate(shown):
            span = spans[number]
            axes.plot([span.low, span.high], [place + shift] * 2, color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([span.value], [place + shift], "o", color=colour, markersize=5.5)
        axes.plot([], [], "o-", color=colour, label=label)
        whole = shown[-1][1][number].value  # everybody comes first
        axes.axvline(whole, color=colour, linewidth=1, linestyle=":", zorder=1)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown], **STYLE)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlabel(f"{metric}, 95% interval; dotted: everybody", **STYLE)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=9)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8, zorder=0)
    _open(axes)
    return as_png(figure)


def _open(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_axisbelow(True)
