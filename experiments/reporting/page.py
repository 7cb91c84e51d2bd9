"""Self-contained pages: no script, no request to anywhere; a title, a list of contents, parts with headings."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.reporting.style import CSS

_LISTED = 4  # parts from which a list of contents helps
_DENSITY = 150 / 96  # pixels of a picture for one of the page


class Part(NamedTuple):
    """What stands under one heading, as markup."""

    title: str
    body: Sequence[str]


def page(title: str, lead: str, parts: Sequence[Part], *, opening: Sequence[str] = ()) -> str:
    """Return a whole page; what opens it stands above the first part."""
    width = "<meta name='viewport' content='width=device-width, initial-scale=1'>"
    head = f"<meta charset='utf-8'>{width}<title>{text(title)}</title><style>{CSS}</style>"
    anchors = [_anchor(number, part.title) for number, part in enumerate(parts, start=1)]
    links = [f"<li><a href='#{each}'>{text(part.title)}</a></li>" for each, part in zip(anchors, parts, strict=True)]
    listed = f"<nav aria-label='Contents'><ol>{''.join(links)}</ol></nav>" if len(parts) >= _LISTED else ""
    sections = [
        f"<section aria-labelledby='{each}'><h2 id='{each}'>{text(part.title)}</h2>\n"
        + "\n".join(part.body)
        + "</section>"
        for each, part in zip(anchors, parts, strict=True)
    ]
    top = f"<header><h1>{text(title)}</h1><p class='lead'>{text(lead)}</p></header>"
    body = f"{top}\n{listed}\n<main>" + "\n".join([*opening, *sections]) + "</main>"
    return f"<!doctype html>\n<html lang='en'><head>{head}</head>\n<body>{body}</body></html>\n"


def text(value: Any) -> str:
    """Return a value as text that is safe in markup and in its attributes."""
    return html.escape(str(value), quote=True)


def paragraph(words: str, kind: str = "") -> str:
    """Return words as a paragraph, escaped."""
    return f"<p class='{kind}'>{text(words)}</p>" if kind else f"<p>{text(words)}</p>"


def image(png: bytes, description: str, caption: str = "") -> str:
    """Return a picture inside the page, as large as it was drawn; on a dark page its negative, with its hues."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    width = round(int.from_bytes(png[16:20]) / _DENSITY)  # the first field of a PNG's header
    under = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f"<figure><img alt='{text(description)}' width='{width}' src='{source}'>{under}</figure>"


def folded(summary: str, body: Sequence[str]) -> str:
    """Return markup that opens when its summary is chosen."""
    return f"<details><summary>{text(summary)}</summary>{''.join(body)}</details>"


def wide(markup: str, description: str) -> str:
    """Return markup in a box that scrolls sideways by itself, also by keys."""
    return f"<div class='wide' role='region' tabindex='0' aria-label='{text(description)}'>{markup}</div>"


def _anchor(number: int, title: str) -> str:
    return f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')[:40] or 'part'}-{number}"
