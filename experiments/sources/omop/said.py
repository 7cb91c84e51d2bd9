"""What the rows of OMOP's tables say, with concepts still by their numbers: they get names when all are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from experiments.sources.facts import FACT, Why, facts
from experiments.sources.moments import Clock, Midnight
from experiments.sources.pieces import Origin, header_of
from experiments.sources.typed import Column, Kind
from fusion.component import UsageError

BORN, DIED = "MEDS_BIRTH", "MEDS_DEATH"
_NUMBERS = ("concept", "value_concept", "unit_concept", "visit")
SAID: dict[str, pl.DataType] = {
    **FACT,
    "prefix": pl.String(),
    **dict.fromkeys(_NUMBERS, pl.Int64()),
    "site": pl.String(),
}
NO_CONCEPT = "no concept (0), standard or of the source"
Make = Callable[[pl.DataFrame, "Table"], pl.DataFrame]


@dataclass(frozen=True)
class Reading:
    """How OMOP is read: by which concepts, in which zone, and whether midnight sharp is a time."""

    codes: str = "standard"
    zone: str | None = None
    midnight: Midnight = "date"


@dataclass(frozen=True)
class Table:
    """A table: what its columns' names begin with, which more it has, and what its rows say.

    Args:
        concept: the columns `<concept>_concept_id` and `<concept>_source_concept_id` say what it is.
        times: each has a column `<time>_datetime`, `<time>_date` or both.
        more: further columns, which may be missing.
    """

    concept: str
    times: tuple[str, ...]
    make: Make
    more: Mapping[str, Kind]

    def columns(self, origin: Origin, reading: Reading) -> dict[str, Column]:
        """Return the columns that the table has of those wanted.

        Raises:
            UsageError: it has no person, no concept or no time.
        """
        header = {name.lower() for name in header_of(origin)}
        date = Clock(zone=reading.zone, midnight="date")
        time = Clock(zone=reading.zone, midnight=reading.midnight)
        wanted = {"person_id": Column("id", "person_id")}
        for name in self.times:
            both = {f"{name}_datetime": time, f"{name}_date": date}
            if not header & set(both):
                raise UsageError(f"{origin.where}: missing column '{name}_datetime' or '{name}_date'")
            wanted |= {each: Column("time", each, clock) for each, clock in both.items()}
        ids = [f"{self.concept}_concept_id", f"{self.concept}_source_concept_id"] if self.concept else []
        if ids and not header & set(ids):
            raise UsageError(f"{origin.where}: missing column '{ids[0]}'")
        order = ids if reading.codes == "standard" else ids[::-1]
        wanted |= {f"concept_{number}": Column("id", name) for number, name in enumerate(order)}
        wanted |= {name: Column(kind, name) for name, kind in self.more.items()}
        return {name: column for name, column in wanted.items() if name == "person_id" or column.name in header}

    def said(self, piece: pl.DataFrame) -> pl.DataFrame:
        """Return the facts in a piece; the columns it lacks are empty."""
        wanted = {**dict.fromkeys(self.more, None), **dict.fromkeys(("concept_0", "concept_1"), None)}
        for name in self.times:
            wanted |= dict.fromkeys((f"{name}_datetime", f"{name}_date"), None)
        absent = [pl.lit(None, self._kind(name)).alias(name) for name in wanted if name not in piece.columns]
        filled = piece.with_columns(absent).with_columns(
            pl.when(pl.col(name) != 0).then(pl.col(name)).alias(name)
            for name in ("concept_0", "concept_1", *(each for each in self.more if each.endswith("concept_id")))
        )
        filled = filled.with_columns(
            pl.coalesce("concept_0", "concept_1").alias("concept"),
            *(pl.coalesce(f"{name}_datetime", f"{name}_date").alias(name) for name in self.times),
        )
        found = self.make(filled, self)
        empty = [pl.lit(None, kind).alias(name) for name, kind in SAID.items() if name not in found.columns]
        return found.with_columns(empty).select(pl.col(name).cast(kind) for name, kind in SAID.items())

    def _kind(self, name: str) -> pl.DataType:
        kind: Kind = self.more.get(name, "id" if name.startswith("concept_") else "time")
        return {"id": pl.Int64(), "number": pl.Float64(), "text": pl.String(), "time": pl.Datetime("us")}[str(kind)]


def _fact(
    piece: pl.DataFrame,
    time: str | None,
    concept: str = "concept",
    *,
    prefix: str = "",
    why: Why = (),
    needed: bool = True,
    also: Sequence[str] = (),
) -> pl.DataFrame:
    """Return one fact a row, which always holds without a time; `also` names columns of `SAID` that the piece has."""
    renamed = piece.rename({"person_id": "subject_id"})
    code = pl.col(concept).cast(pl.String) if needed else pl.lit("")
    reasons = [*why, (NO_CONCEPT, pl.col(concept).is_null())] if needed else list(why)
    found = facts(renamed, None if time is None else pl.col(time), code, why=reasons)
    more = renamed.select(pl.lit(prefix).alias("prefix"), pl.col(concept).alias("concept"), *also)
    told = [name for name in found.columns if name not in more.columns]
    return pl.concat([found.select(told), more], how="horizontal")


def _plain(piece: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Drugs and devices: what was given, from its start."""
    return _fact(piece, table.times[0])


def _coded(piece: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Diagnoses and procedures, which may be coded only when their visit is over."""
    named = piece.with_columns(pl.col("visit_occurrence_id").alias("visit"))
    return _fact(named, table.times[0], also=["visit"])


def _valued(piece: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Measurements and observations with a number, a concept or a text as value; a measurement needs one."""
    named = piece.with_columns(
        pl.col("value_as_number").alias("numeric_value"),
        pl.col("value_as_concept_id").alias("value_concept"),
        pl.col("unit_concept_id").alias("unit_concept"),
        pl.col("unit_source_value").alias("unit"),
        pl.col("value_as_string").alias("text_value"),
    )
    nothing = pl.col("numeric_value").is_null() & pl.col("value_concept").is_null()
    why = [("no value", nothing)] if table.concept == "measurement" else []
    also = ["numeric_value", "value_concept", "unit_concept", "unit", "text_value"]
    return _fact(named, table.times[0], why=why, also=also)


def _visits(prefix: str) -> Make:
    def make(piece: pl.DataFrame, table: Table) -> pl.DataFrame:
        start, end = table.times
        named = piece.with_columns(pl.col("visit_occurrence_id").alias("visit"))
        wrong = [("end before start", pl.col(end) < pl.col(start))]
        begun = _fact(named, start, prefix=f"{prefix}_START//", also=["visit"])
        return pl.concat([begun, _fact(named, end, prefix=f"{prefix}_END//", why=wrong, also=["visit"])])

    return make


def _deaths(piece: pl.DataFrame, _table: Table) -> pl.DataFrame:
    """Death, and its cause where one is given."""
    died = _fact(piece.with_columns(cause=pl.lit(None, pl.Int64)), "death", "cause", prefix=DIED, needed=False)
    caused = piece.filter(pl.col("concept").is_not_null())
    return pl.concat([died, _fact(caused, "death", prefix="CAUSE_OF_DEATH//")])


def _notes(piece: pl.DataFrame, _table: Table) -> pl.DataFrame:
    text = pl.col("note_text").str.strip_chars()
    kind = pl.coalesce("note_class_concept_id", "note_type_concept_id")
    named = piece.with_columns(text.alias("text_value"), kind.alias("kind"))
    why = [("no text", text.is_null() | (text == ""))]
    return _fact(named, "note", "kind", prefix="NOTE//", why=why, needed=False, also=["text_value"])


def _persons(piece: pl.DataFrame, _table: Table) -> pl.DataFrame:
    """Birth, sex, race and ethnicity; a birthday without month or day is the first of those that it may be."""
    born = pl.datetime(
        pl.col("year_of_birth"), pl.col("month_of_birth").fill_null(1), pl.col("day_of_birth").fill_null(1)
    )
    plausible = pl.col("year_of_birth").is_between(1800, 2200)
    named = piece.with_columns(
        pl.coalesce("birth_datetime", pl.when(plausible).then(born)).alias("born"),
        pl.lit(None, pl.Int64).alias("nothing"),
        pl.col("care_site_id").cast(pl.String).alias("site"),
    )
    parts = [_fact(named, "born", "nothing", prefix=BORN, needed=False, also=["site"])]
    for prefix, concept in (("GENDER//", "gender"), ("RACE//", "race"), ("ETHNICITY//", "ethnicity")):
        parts.append(_fact(named, None, f"{concept}_concept_id", prefix=prefix, also=["site"]))
    return pl.concat(parts)


_VISIT: dict[str, Kind] = {"visit_occurrence_id": "id"}
_VALUE: dict[str, Kind] = {
    **{"value_as_number": "number", "value_as_concept_id": "id", "unit_concept_id": "id"},
    **{"unit_source_value": "text", "value_as_string": "text"},
}
_NOTE: dict[str, Kind] = {"note_text": "text", "note_class_concept_id": "id", "note_type_concept_id": "id"}
_PERSON: dict[str, Kind] = {
    **{"year_of_birth": "id", "month_of_birth": "id", "day_of_birth": "id", "birth_datetime": "time"},
    **{"gender_concept_id": "id", "race_concept_id": "id", "ethnicity_concept_id": "id", "care_site_id": "id"},
}
TABLES: dict[str, Table] = {
    "person": Table("", (), _persons, _PERSON),
    "visit_occurrence": Table("visit", ("visit_start", "visit_end"), _visits("VISIT"), _VISIT),
    "visit_detail": Table("visit_detail", ("visit_detail_start", "visit_detail_end"), _visits("UNIT"), _VISIT),
    "condition_occurrence": Table("condition", ("condition_start",), _coded, _VISIT),
    "drug_exposure": Table("drug", ("drug_exposure_start",), _plain, {}),
    "procedure_occurrence": Table("procedure", ("procedure",), _coded, _VISIT),
    "device_exposure": Table("device", ("device_exposure_start",), _plain, {}),
    "measurement": Table("measurement", ("measurement",), _valued, _VALUE),
    "observation": Table("observation", ("observation",), _valued, _VALUE),
    "death": Table("cause", ("death",), _deaths, {}),
    "note": Table("", ("note",), _notes, _NOTE),
}
