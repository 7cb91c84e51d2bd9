"""What the rows of a hospital's own tables say: coded events, notes and images, or why they are none."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from experiments.sources.facts import Why, facts
from experiments.sources.images import ABSENT, Images
from experiments.sources.spelling import respell
from experiments.sources.tabular.mapping import (
    NAME,
    EventTable,
    File,
    ImageTable,
    Mapping,
    NoteTable,
    When,
    columns_in,
    parts_of,
)
from experiments.sources.typed import Column

Table = EventTable | NoteTable | ImageTable


def further_columns(mapping: Mapping) -> tuple[str, ...]:
    """Return the columns that the events have beyond those that all have."""
    site = ("site",) if any(each.site for each in mapping.events) else ()
    return (*site, "image_path", "view") if mapping.images else site


def columns(table: Table, ids: str, zone: str | None) -> dict[str, Column]:
    """Return the columns of a table that are read, by what they tell; those in patterns between braces."""
    found = {"patient": patient_column(table, ids)}
    found |= {name: time_column(when, zone) for name, when in table.times().items()}
    if isinstance(table, EventTable):
        found |= {f"{{{name}}}": Column("text", name) for name in columns_in(table.code) + columns_in(table.unit)}
        if table.value is not None:
            found["value"] = Column("number", table.value, decimal=table.decimal)
        found |= {_cell(name): Column("number", name, decimal=table.decimal) for name in table.values}
        if table.site is not None:
            found["site"] = Column("text", table.site)
    elif isinstance(table, NoteTable):
        found |= {f"{{{name}}}": Column("text", name) for name in columns_in(table.kind)}
        found["text"] = Column("text", table.text)
    else:
        found["path"] = Column("text", table.path)
        if table.view is not None:
            found["view"] = Column("text", table.view)
    return found


def patient_column(table: File, ids: str) -> Column:
    """Return the column that says whose a row is."""
    return Column("id" if ids == "integer" else "text", table.patient)


def time_column(when: When, zone: str | None, *, early: bool = False) -> Column:
    """Return a column of times; `zone` is that of all tables."""
    return Column("time", when.name, when.clock(zone, early=early), fixed=when.at)


def events_in(piece: pl.DataFrame, table: EventTable) -> pl.DataFrame:
    """Return the facts in rows of coded events."""
    if table.values:
        return _with(respell(_cells(piece, table)), piece, "site", len(table.values))
    may_lack = table.value is None or table.value_may_be_missing
    value = None if may_lack else pl.col("value")
    found = facts(piece, _known(table), _filled(table.code), value, _filled(table.unit), why=_why(table))
    if table.value is not None and may_lack:
        found = found.with_columns(piece["value"].cast(pl.Float32).alias("numeric_value"))
    return _with(respell(found), piece, "site")


def _cells(piece: pl.DataFrame, table: EventTable) -> pl.DataFrame:
    """Return a fact a cell, column by column."""
    known, unit, why = _known(table), _filled(table.unit), _why(table)
    codes = {name: _filled(table.code.replace(NAME, name)) for name in table.values}
    return pl.concat(facts(piece, known, code, pl.col(_cell(name)), unit, why=why) for name, code in codes.items())


def _cell(name: str) -> str:
    return f"value of {name}"


def notes_in(piece: pl.DataFrame, table: NoteTable) -> pl.DataFrame:
    """Return the facts in rows of notes."""
    name = _filled(table.kind).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", "_").str.strip_chars("_")
    text = pl.col("text").str.strip_chars()
    empty = ("no text", text.is_null() | (text == ""))
    return facts(piece, _known(table), pl.lit("NOTE//") + name, text=text, why=[*_why(table), empty])


def images_in(piece: pl.DataFrame, table: ImageTable, images: Images, source: Path) -> pl.DataFrame:
    """Copy the images of rows and return the facts in them."""
    places = images.copy(source / table.folder, piece["path"])
    why = [*_why(table), (ABSENT, pl.col("image_path").is_null())]
    placed = piece.with_columns(places.alias("image_path"))
    found = facts(placed, _known(table), pl.lit("IMAGE"), why=why).with_columns(placed["image_path"])
    return _with(found, piece, "view")


def _known(table: Table) -> pl.Expr | None:
    """Return when a fact was known: the later of when it was so and when it was available."""
    if table.time is None:
        return None
    return pl.max_horizontal("time", "available") if table.available else pl.col("time")


def _why(table: Table) -> Why:
    reasons = [("no patient", pl.col("subject_id").is_null())]
    if table.time is not None and table.not_before is not None:
        early = pl.col("time") < pl.col("not_before")
        reasons.append((f"{table.time.name} before {table.not_before.name}", early))
    return reasons


def _filled(pattern: str | None) -> pl.Expr:
    """Return a pattern with the columns' texts in it; null where one of them is."""
    if pattern is None:
        return pl.lit(None, pl.String)
    parts = [pl.col(text) if is_column else pl.lit(text) for text, is_column in parts_of(pattern)]
    return pl.concat_str(parts)


def _with(found: pl.DataFrame, piece: pl.DataFrame, name: str, times: int = 1) -> pl.DataFrame:
    """Add a column of the piece, which the facts repeat so many times."""
    return found.with_columns(pl.concat([piece[name]] * times)) if name in piece.columns else found
