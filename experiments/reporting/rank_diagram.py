"""The critical-difference diagram: mean ranks on a line, bars over what is not shown to differ."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import COLOURS, GREY, STYLE, as_png
from experiments.statistics.ranks import Ranks

_STEP = 0.34  # inches a line


def rank_diagram_png(ranks: Ranks) -> bytes:
    """Draw mean ranks, the best on the left; those under one bar are not shown to differ (Nemenyi, 5%).

    Reference:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006.
    """
    order, cliques = np.argsort(ranks.means, kind="stable"), ranks.cliques()
    count = len(order)
    half = math.ceil(count / 2)
    places = dict(zip((ranks.names[i] for i in order), ranks.means[order], strict=True))
    above, below = 1.6 + 0.45 * len(cliques), half + 0.6
    figure = Figure(figsize=(8, 0.3 + _STEP * (above + below)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(1 - 0.45 * (count - 1), count + 0.45 * (count - 1))
    axes.set_ylim(-below, above)
    axes.set_axis_off()
    axes.plot([1, count], [0, 0], color=GREY, linewidth=1.2)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.12], color=GREY, linewidth=1.2)
        if count <= 12 or tick in (1, count) or tick % 5 == 0:
            axes.annotate(str(tick), (tick, 0.16), ha="center", va="bottom", fontsize=9, color=GREY)
    for number, (name, place) in enumerate(places.items()):
        left = number < half
        depth = -(number + 1 if left else count - number)
        edge = 1 - 0.04 * count if left else count + 0.04 * count
        axes.plot([place, place, edge], [0, depth, depth], color=COLOURS[0], linewidth=1.1)
        label = f"{name}  {place:.2f}" if left else f"{place:.2f}  {name}"
        axes.annotate(
            label, (edge, depth), xytext=(-4 if left else 4, 0), textcoords="offset points", va="center",
            ha="right" if left else "left", **STYLE,
        )  # fmt: skip
    for number, members in enumerate(cliques):
        height = 0.9 + 0.45 * number
        span = [places[members[0]] - 0.03, places[members[-1]] + 0.03]
        axes.plot(span, [height, height], color="#222222", linewidth=4, solid_capstyle="butt")
    top = above - 0.25
    shown = min(ranks.critical_difference, count - 1)
    axes.plot([1, 1 + shown], [top, top], color=COLOURS[1], linewidth=2)
    small = f"{ranks.p:.3f}" if ranks.p >= 0.001 else "below 0.001"
    text = f"  critical difference {ranks.critical_difference:.2f}; Friedman p {small}; {ranks.blocks} folds"
    axes.annotate(text, (1 + shown, top), va="center", fontsize=9, color=COLOURS[1])
    return as_png(figure, whole=True)  # long names stand out of the axes


def in_words(ranks: Ranks) -> str:
    """Say what the diagram shows."""
    order = np.argsort(ranks.means, kind="stable")
    means = ", ".join(f"{ranks.names[i]} {ranks.means[i]:.2f}" for i in order)
    alike = "; ".join(", ".join(members) for members in ranks.cliques()) or "nobody"
    return f"mean ranks over folds, 1 is best: {means}; not shown to differ: {alike}"
