"""Drawings of architectures as SVG, for pages."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.figures import COLOURS
from fusion.autofm.genes import NODES, STEPS, sources


def architecture_svg(architecture: Mapping[str, Any]) -> str:
    """Draw encoders, fusion and head as boxes; it takes the colour of the text around it.

    The genes of an AutoFM fusion are drawn below, as the operations and nodes they stand for.

    Args:
        architecture: as `Architecture.to_dict` gives it.
    """
    encoders = architecture["encoders"]
    height, middle = 58 * len(encoders) + 6, 29 * len(encoders) - 19
    fusion, parts = architecture["fusion"], []
    for i, (modality, spec) in enumerate(encoders.items()):
        parts.append(_box(2, 4 + 58 * i, 250, f"{modality}: {spec['name']}", _component(spec), COLOURS[1]))
        parts.append(_arrow(252, 26 + 58 * i, 320, middle + 22))
    parts.append(_box(320, middle, 250, fusion["name"], _component(fusion), COLOURS[0]))
    parts.append(_arrow(570, middle + 22, 630, middle + 22))
    parts.append(_box(630, middle, 126, "head", f"width {architecture['dim']}", COLOURS[2]))
    names = ", ".join(f"{modality} by {spec['name']}" for modality, spec in encoders.items())
    label = html.escape(f"{names}; fused by {fusion['name']}", quote=True)
    drawn = _svg(parts, label, 760, height)
    return drawn + genes_svg(fusion["genes"], list(encoders)) if fusion.get("genes") else drawn


def genes_svg(genes: Mapping[str, Any], modalities: Sequence[str]) -> str:
    """Draw an AutoFM architecture: each modality's operations in a row, then the nodes and what they take in."""
    places = {name: (2.0, 4.0 + 58 * i) for i, name in enumerate(modalities)}
    nodes = [f"node{node}" for node in range(1, NODES + 1)]
    height = max(58.0 * len(modalities), 186.0)
    middle = height / 2 - 19
    parts = []
    for name, (x, y) in places.items():
        parts.append(_box(x, y, 110, name, "", COLOURS[1]))
        for step in range(1, STEPS + 1):
            parts.append(_arrow(x + 110, y + 22, x + 140, y + 22))
            x += 140
            parts.append(_box(x, y, 110, genes[f"{name}_{step}"].replace("_", " "), "", COLOURS[4]))
        places[name] = (x, y)
    for i, node in enumerate(nodes):
        x, y = 460.0 + 140 * i, middle + 64.0 * (i - (len(nodes) - 1) / 2)
        taken = [source for source in sources(modalities, i + 1) if genes[f"{node}_{source}"]]
        parts += [_arrow(places[each][0] + 110, places[each][1] + 22, x, y + 22) for each in taken]
        places[node] = (x, y)
    parts += [_arrow(places[node][0] + 110, places[node][1] + 22, 890, middle + 22) for node in nodes]
    parts += [_box(*places[node], 110, f"{i}: {genes[node]}", "", COLOURS[0]) for i, node in enumerate(nodes, start=1)]
    parts.append(_box(890, middle, 68, "sum", "", COLOURS[2]))
    steps = "; ".join(
        f"{name} by {', '.join(genes[f'{name}_{s}'] for s in range(1, STEPS + 1))}" for name in modalities
    )
    return _svg(parts, html.escape(steps, quote=True), 960, height + 6)


def _svg(parts: Sequence[str], label: str, width: int, height: float) -> str:
    style = "max-width:100%;height:auto;font:13px system-ui,sans-serif"
    opening = f"<svg role='img' aria-label='{label}' viewBox='0 0 {width} {height:g}' width='{width}' style='{style}'>"
    return opening + "".join(parts) + "</svg>"


def _component(spec: Mapping[str, Any]) -> str:
    settings = {name: value for name, value in spec.items() if name not in ("name", "genes")}
    values = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    ]
    return ", ".join(values)


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (x + to_x) / 2
    curve = f"M{x},{y:g} C{middle},{y:g} {middle},{to_y:g} {to_x - 7},{to_y:g}"
    head = f"M{to_x},{to_y:g} l-8,-4 v8 z"
    return f"<path d='{curve}' fill='none' stroke='currentColor'/><path d='{head}' fill='currentColor'/>"


def _box(x: float, y: float, width: float, title: str, detail: str, colour: str) -> str:
    room = int(width / 6.2)
    short = detail if len(detail) <= room else detail[: room - 1] + "\u2026"
    whole = html.escape(f"{title}: {detail}" if detail else title)
    frame = f"width='{width:g}' height='44' rx='6' fill='{colour}' fill-opacity='.12' stroke='{colour}'"
    name, place = html.escape(title), f"x='{x + 10:g}' fill='currentColor'"
    shift = 0 if detail else 8
    return (
        f"<g><title>{whole}</title><rect x='{x:g}' y='{y:g}' {frame}/>"
        f"<text {place} y='{y + 19 + shift:g}' font-weight='600'>{name}</text>"
        f"<text {place} y='{y + 36:g}' font-size='11'>{html.escape(short)}</text></g>"
    )
