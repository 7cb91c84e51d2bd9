"""Notes, each known when it was stored; a summary of the stay never before the patient has left."""

from __future__ import annotations

import polars as pl

from experiments.sources.facts import Why, end_of_day, facts, later
from experiments.sources.mimic.facts import Known, Table
from experiments.sources.tables import Kind


def _note(piece: pl.DataFrame, time: pl.Expr, kind: pl.Expr, why: Why = ()) -> pl.DataFrame:
    text = pl.col("text").str.strip_chars()
    name = kind.str.to_lowercase().str.strip_chars().str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")
    empty = ("no text", (text.str.len_chars() == 0) | text.is_null())
    return facts(piece, time, pl.lit("NOTE//") + name, text=text, why=[*why, empty])


def _summaries(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Discharge summaries bear the date of discharge without an hour as their chart time."""
    table = known.with_left(piece)
    stored = pl.coalesce("storetime", end_of_day(pl.col("charttime")))
    return _note(table, pl.max_horizontal(stored, "charttime", "left"), pl.lit("discharge_summary"))


def _reports(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return _note(piece, later("charttime", "storetime"), pl.lit("radiology"))


def _events(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Notes of MIMIC-III; what bears a date only is known at the end of the day."""
    table, is_summary = known.with_left(piece), pl.col("category") == "Discharge summary"
    written = pl.max_horizontal("charttime", "storetime")
    written = pl.coalesce(written, end_of_day(pl.col("chartdate")))
    summed = pl.max_horizontal(written, end_of_day(pl.col("chartdate")), "left")
    why = [("marked as an error", pl.col("iserror") == 1)]
    return _note(table, pl.when(is_summary).then(summed).otherwise(written), pl.col("category"), why)


_NOTE: dict[str, Kind] = {
    **{"subject_id": "integer", "hadm_id": "integer", "charttime": "time", "storetime": "time", "text": "text"}
}
NOTES_4 = (Table("discharge", _NOTE, _summaries), Table("radiology", _NOTE, _reports))
NOTES_3 = (Table("noteevents", _NOTE | {"chartdate": "time", "category": "text", "iserror": "integer"}, _events),)
