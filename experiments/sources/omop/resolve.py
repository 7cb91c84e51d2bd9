"""From numbers of concepts to codes, and from the day of a code to when it was known."""

from __future__ import annotations

from typing import Literal

import polars as pl

from experiments.sources.omop.said import DIED, SAID
from experiments.sources.shards import in_order_of_life
from experiments.sources.tables import Parts

Coded = Literal["visit-end", "dated"]
UNKNOWN = "its concept is not in the table of concepts"
_NAMED = ("RACE//", "ETHNICITY//", "VISIT_START//", "VISIT_END//", "UNIT_START//", "UNIT_END//")
_SEXES = {8507: "M", 8532: "F"}  # what everybody's concepts of male and female are, also without a vocabulary
DELAYED = ("condition_occurrence", "procedure_occurrence")


def resolved(name: str, parts: Parts, concepts: pl.DataFrame, coded: Coded) -> pl.DataFrame | None:
    """Return the events of a table in a shard, with codes; null where a concept is not known."""
    table = parts.read(name)
    if table is None:
        return None
    if coded == "visit-end" and name in DELAYED:
        table = _at_visit_end(table, parts)
    for role in ("concept", "value_concept", "unit_concept"):
        table = table.join(
            concepts.rename({each: f"{role}_{each}" for each in ("code", "short", "name")}),
            left_on=role,
            right_on="concept",
            how="left",
            maintain_order="left",
        )
    return table.with_columns(code=_code(), unit=pl.coalesce("unit_concept_short", "unit"))


def judged(events: pl.DataFrame) -> pl.DataFrame:
    """Judge what can be judged only when a shard is whole: unknown concepts, and births after deaths."""
    unknown = pl.when(pl.col("code").is_null()).then(pl.lit(UNKNOWN))
    return in_order_of_life(events).with_columns(why=pl.coalesce("why", unknown))


def _at_visit_end(table: pl.DataFrame, parts: Parts) -> pl.DataFrame:
    """Date codes by the end of their visit, if it is known and later: that is when they are given."""
    visits = parts.read("visit_occurrence")
    if visits is None:
        return table
    ends = visits.filter(pl.col("prefix") == "VISIT_END//").group_by("visit").agg(pl.col("time").max().alias("ended"))
    table = table.join(ends, on="visit", how="left", maintain_order="left")
    return table.with_columns(time=pl.max_horizontal("time", "ended")).drop("ended")


def _code() -> pl.Expr:
    prefix, code = pl.col("prefix"), pl.col("concept_code")
    answer = pl.when(pl.col("value_concept").is_not_null()).then(pl.lit("|") + pl.col("value_concept_code"))
    note = _name("concept_name").str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")
    return (
        pl.when(prefix.is_in(["MEDS_BIRTH", DIED]))
        .then(prefix)
        .when(prefix == "GENDER//")
        .then(prefix + pl.coalesce(_sex(), "concept_short"))
        .when(prefix == "NOTE//")
        .then(prefix + note.fill_null("note"))
        .when(prefix.is_in(_NAMED))
        .then(prefix + _name("concept_name"))
        .otherwise(prefix + code + answer.fill_null(""))
    )


def _sex() -> pl.Expr:
    return pl.col("concept").replace_strict(_SEXES, default=None, return_dtype=pl.String)


def _name(column: str) -> pl.Expr:
    return pl.col(column).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def numbers_in(said: pl.DataFrame) -> set[int]:
    """Return the numbers of all concepts that facts mention."""
    roles = [role for role in SAID if role.endswith("concept")]
    return {number for role in roles for number in said[role].drop_nulls().unique()}
