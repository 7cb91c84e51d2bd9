"""Form entries composed to readable notes, dated by when they were entered."""

from __future__ import annotations

import re

import polars as pl

from experiments.sources.eicu.tables import STAY, Table
from experiments.sources.tables import Parts

_BOILERPLATE = re.compile(
    r"/View and Save/|/View Options/|/Skip Screen Options|/Include Rx/|/system unique note types/"
    r"|/Billing Options/|Obtain Options/Performed$"
)
_SAID = {level: f"{level} intervention" for level in ("Minor", "Intermediate", "Major")}
_ROOTS = ("notes", "Progress Notes", "Procedure Notes", "Shared")
_SCHEMA = {"stay": pl.Int64, "offset": pl.Int64, "code": pl.String, "text": pl.String}


def phrase(path: str, value: str | None, text: str | None) -> str | None:
    """Say a form entry as a phrase, `Smoking Status: denies smoking`; None for buttons of the form.

    Examples:
        >>> phrase("notes/Progress Notes/Social History/Ethanol Use/none", "none", "none")
        'Ethanol Use: none'
        >>> phrase("notes/Progress Notes/Family History/CAD/CAD", "CAD", "CAD")
        'Family History: CAD'
    """
    said = value if text is None or (value and _bare(value) == _bare(text)) else text
    if not said or _BOILERPLATE.search(path):
        return None
    parts = re.split(r"(?<! )/(?! )", path.removesuffix(f"/{value}"))
    parts = [_SAID.get(part, part) for part in parts if part not in _ROOTS]
    known = {_bare(said), _bare(value or "")}
    label = next((part for part in reversed(parts) if _bare(part) not in known), None)
    return said.strip() if label is None else f"{label.rstrip(': ')}: {said.strip()}"


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _note_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Keep every entry with its phrase; buttons keep their row without one: it tells the note's entry."""
    entries = piece.select("notepath", "notevalue", "notetext").unique()
    said = [
        phrase(path or "", value, text)
        for path, value, text in entries.select("notepath", "notevalue", "notetext").iter_rows()
    ]
    entries = entries.with_columns(pl.Series("phrase", said, dtype=pl.String))
    keys = ["notepath", "notevalue", "notetext"]
    table = piece.join(entries, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return table.select(
        stay=STAY,
        noteoffset="noteoffset",
        offset=pl.col("noteenteredoffset").fill_null(pl.col("noteoffset")),
        kind=pl.col("notetype").fill_null("Unknown"),
        row="noteid",
        phrase="phrase",
    ).drop_nulls("offset")


def _note_events(parts: Parts) -> pl.DataFrame:
    """Compose one note of all entries of a kind entered at the same time; a form left empty is no note."""
    found = parts.read("note")
    if found is None:
        return pl.DataFrame(schema=_SCHEMA)
    lines = found.sort("row").with_columns(line=pl.col("phrase") + ".")
    notes = lines.group_by("stay", "offset", "kind").agg(text=pl.col("line").drop_nulls().unique(maintain_order=True))
    notes = notes.filter(pl.col("text").list.len() > 0)
    opening = pl.concat_list((pl.col("kind") + " note.").cast(pl.String), "text")
    slug = pl.col("kind").str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")
    return notes.select("stay", "offset", code=pl.lit("NOTE//") + slug, text=opening.list.join("\n"))


def history_notes(parts: Parts) -> pl.DataFrame:
    """Compose a note of the phrases of past history entered at the same time."""
    found = parts.read("pastHistory")
    if found is None:
        return pl.DataFrame(schema=_SCHEMA)
    keys = ["path", "value", "text"]
    entries = found.select(keys).unique()
    said = [phrase(path.partition("/")[2] or path, value, text) for path, value, text in entries.iter_rows()]
    entries = entries.with_columns(pl.Series("phrase", said, dtype=pl.String))
    lines = found.join(entries, on=keys, how="left", nulls_equal=True).sort("row")
    notes = lines.group_by("stay", "offset").agg(said=pl.col("phrase").drop_nulls().unique(maintain_order=True))
    text = pl.lit("Past history: ") + pl.col("said").list.join("; ") + "."
    return notes.select("stay", "offset", code=pl.lit("NOTE//past_history"), text=text)


NOTES = Table(
    "note",
    {
        STAY: "integer",
        "noteid": "integer",
        "noteoffset": "integer",
        "noteenteredoffset": "integer",
        "notetype": "text",
        "notepath": "text",
        "notevalue": "text",
        "notetext": "text",
    },
    _note_rows,
    _note_events,
)
