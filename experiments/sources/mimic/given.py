"""Drugs ordered, given and infused, and procedures at the bedside, as facts."""

from __future__ import annotations

import polars as pl

from experiments.sources.facts import Why, end_of_day, facts, later, path, worded
from experiments.sources.mimic.facts import Known, Table
from experiments.sources.mimic.measured import itemid_named
from experiments.sources.tables import Kind, Parts

GIVEN = (
    *("administered", "delayed administered", "administered in other location", "partial administered"),
    *("started", "started in other location", "delayed started", "restarted", "applied", "confirmed", "infused"),
    *("administered bolus from iv drip", "rate change"),
)
_NOTHING = "neither rate nor amount"


def with_entry(prescriptions: pl.DataFrame, parts: Parts) -> pl.DataFrame:
    """Date an order by its entry at the pharmacy where that came after its start."""
    pharmacy = parts.read("pharmacy")
    if pharmacy is not None:
        entered = pharmacy.drop_nulls().group_by("pharmacy_id").agg(entered=pl.col("entertime").min())
        prescriptions = prescriptions.join(entered, on="pharmacy_id", how="left", maintain_order="left")
        prescriptions = prescriptions.with_columns(time=pl.max_horizontal("time", "entered")).drop("entered")
    return prescriptions.drop("pharmacy_id")


def _drug(kind: str, name: str) -> pl.Expr:
    return pl.lit(f"{kind}//") + worded(pl.col(name))


def _ordered_4(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    table = facts(piece, pl.col("starttime"), _drug("DRUG//NAME", "drug"))
    return table.with_columns(piece["pharmacy_id"])


def _ordered_3(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return facts(piece, end_of_day(pl.col("startdate")), _drug("DRUG//NAME", "drug"))


def _administered(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    given = worded(pl.col("event_txt")).is_in(GIVEN).fill_null(value=False)
    why = [("not given, or not said to be", ~given)]
    return facts(piece, later("charttime", "storetime"), _drug("DRUG//GIVEN", "medication"), why=why)


def _dispensed(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return facts(piece, pl.col("charttime"), _drug("DRUG//GIVEN", "name"))


def _home(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return facts(piece, pl.col("charttime"), _drug("HOME_DRUG//NAME", "name"))


def _infused(piece: pl.DataFrame, known: Known, started: pl.Expr, ended: pl.Expr, why: Why) -> pl.DataFrame:
    """Take the rate, known from its start on, or without one the amount, known at its end; never before it is stored.

    The unit is part of the code: numbers in different units cannot be compared.
    """
    rate, amount = pl.col("rate"), pl.col("amount")
    is_rate = rate.is_not_null()
    unit = pl.when(is_rate).then("rateuom").otherwise("amountuom").str.strip_chars()
    suffix = pl.when(unit.is_null()).then(pl.lit("")).otherwise(" (" + unit.str.to_lowercase() + ")")
    code = path("INFUSION", itemid_named(dict(known.items))) + suffix
    time = pl.max_horizontal(pl.when(is_rate).then(started).otherwise(ended), "storetime")
    why = [*why, (_NOTHING, rate.is_null() & amount.is_null())]
    return facts(piece, time, code, pl.coalesce(rate, amount), unit, why=why)


_REWRITTEN = ("rewritten by another row", pl.col("statusdescription").str.to_lowercase() == "rewritten")


def _inputs(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    why = [_REWRITTEN]
    if "cancelreason" in piece.columns:
        why.append(("cancelled", pl.col("cancelreason") != 0))
    return _infused(piece, known, pl.col("starttime"), pl.col("endtime"), why)


def _inputs_carevue(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    return _infused(piece, known, pl.col("charttime"), pl.col("charttime"), ())


def _bedside(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Procedures at the bedside, from their start on, not before they are stored; how long they last is not told."""
    code = path("PROCEDURE", itemid_named(dict(known.items)))
    return facts(piece, later("starttime", "storetime"), code, why=[_REWRITTEN])


_WHO: dict[str, Kind] = {"subject_id": "integer"}
_AMOUNT: dict[str, Kind] = _WHO | {
    **{"itemid": "integer", "storetime": "time", "rate": "number", "rateuom": "text"},
    **{"amount": "number", "amountuom": "text"},
}
_TIMED: dict[str, Kind] = _AMOUNT | {"starttime": "time", "endtime": "time", "statusdescription": "text"}
_BEDSIDE: dict[str, Kind] = _WHO | {
    **{"itemid": "integer", "starttime": "time", "storetime": "time", "statusdescription": "text"}
}
GIVEN_4 = (
    Table(
        "prescriptions",
        _WHO | {"pharmacy_id": "integer", "starttime": "time", "drug": "text"},
        _ordered_4,
    ),
    Table(
        "pharmacy",
        _WHO | {"pharmacy_id": "integer", "entertime": "time"},
        _ordered_4,
        aside=("pharmacy_id", "entertime"),
        why="says when prescriptions were entered",
    ),
    Table(
        "emar",
        _WHO | {"charttime": "time", "storetime": "time", "medication": "text", "event_txt": "text"},
        _administered,
    ),
    Table("inputevents", _TIMED, _inputs),
    Table("procedureevents", _BEDSIDE, _bedside),
    Table("pyxis", _WHO | {"charttime": "time", "name": "text"}, _dispensed),
    Table("medrecon", _WHO | {"charttime": "time", "name": "text"}, _home),
)
GIVEN_3 = (
    Table("prescriptions", _WHO | {"startdate": "time", "drug": "text"}, _ordered_3),
    Table("inputevents_mv", _TIMED | {"cancelreason": "integer"}, _inputs),
    Table("inputevents_cv", _AMOUNT | {"charttime": "time"}, _inputs_carevue),
    Table("procedureevents_mv", _BEDSIDE, _bedside),
)
