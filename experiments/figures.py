"""How all pictures look, and a figure as a PNG: no global state, colours that colour-blind readers can tell apart."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette."""
GREY = "#666666"
STYLE: dict[str, Any] = {"fontsize": 10, "color": "#222222"}


def as_png(figure: Figure, *, whole: bool = False) -> bytes:
    """Return a figure as a PNG; `whole` makes it as wide as what is drawn outside of its axes needs."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight" if whole else None)
    return buffer.getvalue()


def grid(axes: Any, along: str) -> None:
    """Draw thin lines behind everything, and no frame at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=along, color="#e6e6e6", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
