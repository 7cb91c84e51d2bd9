"""Sections that others wrote, and remarks, as parts of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.reporting.page import Part, image, paragraph, text
from experiments.reporting.table import in_digits, table

if TYPE_CHECKING:
    from experiments.section import Section


def section_part(section: Section) -> Part:
    """Return a section: its words, its pictures with what they show below, its tables, long ones folded."""
    body = [paragraph(words) for words in section.words]
    pictures = [image(picture.png, picture.shows, picture.shows) for picture in section.pictures.values()]
    body += [f"<div class='pictures'>{''.join(pictures)}</div>"] if pictures else []
    for name, each in section.tables.items():
        rows = [[in_digits(value) for value in row] for row in each.rows]
        body.append(table(each.heads, rows, name=name.replace("_", " "), fold=True))
        body += [paragraph(each.note, "note")] if each.note else []
    return Part(section.title, body)


def remarks(notes: Sequence[str], kind: str = "") -> str:
    """Return remarks as a list."""
    return f"<ul class='{kind}'>" + "".join(f"<li>{text(note)}</li>" for note in notes) + "</ul>"
