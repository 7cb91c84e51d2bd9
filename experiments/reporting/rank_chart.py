"""The critical-difference diagram in the colours of a page."""

from __future__ import annotations

import math

import numpy as np

from experiments.reporting.page import text, wide
from experiments.statistics.ranks import Ranks

_WIDTH, _AXIS, _STEP = 880, 440, 22


def rank_chart(ranks: Ranks) -> str:
    """Draw mean ranks on a line, the best on the left; those under one bar are not shown to differ (Nemenyi, 5%).

    Reference:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006.
    """
    order = np.argsort(ranks.means, kind="stable")
    names, means = [ranks.names[i] for i in order], [float(ranks.means[i]) for i in order]
    cliques, count = ranks.cliques(), len(order)
    half, left = math.ceil(count / 2), (_WIDTH - _AXIS) / 2
    place = {name: left + _AXIS * (mean - 1) / (count - 1) for name, mean in zip(names, means, strict=True)}
    base = 46 + 14 * len(cliques)
    parts = [f"<line class='link' x1='{left}' x2='{left + _AXIS}' y1='{base}' y2='{base}'/>"]
    parts += [_tick(left + _AXIS * (rank - 1) / (count - 1), base, rank, count) for rank in range(1, count + 1)]
    for number, (name, mean) in enumerate(zip(names, means, strict=True)):
        on_left = number < half
        y = base + 8 + _STEP * ((number if on_left else count - 1 - number) + 1)
        parts.append(_name(place[name], base, y, left - 8 if on_left else left + _AXIS + 8, on_left, name, mean))
    for number, members in enumerate(cliques):
        y, span = 40 + 14 * number, (place[members[0]] - 4, place[members[-1]] + 4)
        said = f"not shown to differ: {', '.join(members)}"
        title = f"<title>{text(said)}</title>"
        parts.append(f"<line class='clique' x1='{span[0]:.1f}' x2='{span[1]:.1f}' y1='{y}' y2='{y}'>{title}</line>")
    parts.append(_critical(ranks, left, count))
    said = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(names, means, strict=True))
    label = text(f"mean ranks over folds, 1 is best: {said}")
    height = base + 20 + _STEP * half
    opening = (
        f"<svg role='img' aria-label='{label}' width='{_WIDTH}' height='{height}' viewBox='0 0 {_WIDTH} {height}'>"
    )
    return wide(opening + "".join(parts) + "</svg>", "mean ranks over folds")


def _tick(x: float, y: float, rank: int, count: int) -> str:
    label = f"<text class='small' x='{x:.1f}' y='{y - 8}' text-anchor='middle'>{rank}</text>"
    shown = label if count <= 12 or rank in (1, count) or rank % 5 == 0 else ""
    return f"<line class='link' x1='{x:.1f}' x2='{x:.1f}' y1='{y - 5}' y2='{y}'/>{shown}"


def _name(x: float, base: float, y: float, edge: float, on_left: bool, name: str, mean: float) -> str:
    """Draw a strategy's name beside the line, and what leads from it to its rank."""
    line = f"<path class='link' d='M{x:.1f},{base} V{y} H{edge}'/>"
    said = f"{text(name)} <tspan class='small'>{mean:.2f}</tspan>"
    anchor, shift = ("end", -5) if on_left else ("start", 5)
    return f"{line}<text x='{edge + shift}' y='{y + 4}' text-anchor='{anchor}'>{said}</text>"


def _critical(ranks: Ranks, left: float, count: int) -> str:
    """Draw how far apart two must be, and say what the tests found."""
    length = min(_AXIS, _AXIS * ranks.critical_difference / (count - 1))
    p = f"{ranks.p:.3f}" if ranks.p >= 0.001 else "below 0.001"
    words = f"critical difference {ranks.critical_difference:.2f}; Friedman p {p}; {ranks.blocks} folds"
    end = round(left + length, 1)
    line = f"<path class='critical' d='M{left},4 V14 M{left},9 H{end} M{end},4 V14'/>"
    spot = f"x='{left}' y='28'" if length > _AXIS / 2 else f"x='{end + 8}' y='13'"
    return f"{line}<text class='small' {spot}>{words}</text>"
