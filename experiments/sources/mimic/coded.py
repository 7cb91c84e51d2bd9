"""Billing codes, cultures, transfers and services as facts. Billing codes are known when the patient has left."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from experiments.sources.facts import end_of_day, facts, path
from experiments.sources.icd import icd_spelled
from experiments.sources.mimic.facts import Known, Table
from experiments.sources.tables import Kind

Make = Callable[[pl.DataFrame, Known], pl.DataFrame]
_LEFT = pl.col("left")
_NO_STAY = ("its hospital stay is not in admissions", _LEFT.is_null())


def spelled(piece: pl.DataFrame, column: str, *, procedure: bool = False) -> pl.Expr:
    """Return the ICD code in our spelling; null where it is none."""
    version = pl.col("icd_version") if "icd_version" in piece.columns else pl.lit(9)
    pairs = piece.select(text=pl.col(column), version=version.cast(pl.Int64)).drop_nulls().unique()
    codes = [icd_spelled(text, number, procedure=procedure) for text, number in pairs.iter_rows()]
    keys = (pairs["text"] + "/" + pairs["version"].cast(pl.String)).to_list()
    key = pl.col(column) + "/" + version.cast(pl.String)
    if not keys:
        return pl.lit(None, pl.String)
    return key.replace_strict(keys, pl.Series(codes, dtype=pl.String), default=None, return_dtype=pl.String)


def _icd(column: str, *, procedure: bool) -> Make:
    def make(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
        code = spelled(piece, column, procedure=procedure)
        table = known.with_left(piece).with_columns(code=code)
        return facts(table, _LEFT, pl.col("code"), why=[_NO_STAY, ("no ICD code", pl.col("code").is_null())])

    return make


def _billed(prefix: str, *columns: str) -> Make:
    def make(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
        names = [pl.col(name).str.strip_chars() for name in columns]
        code = pl.lit(f"{prefix}//") + pl.concat_str(names, separator="//")
        return facts(known.with_left(piece), _LEFT, code, why=[_NO_STAY])

    return make


def _emergency_diagnoses(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Diagnoses of a visit: coded when it, and the hospital stay it led to, are over."""
    table = known.with_visit(piece).with_columns(code=spelled(piece, "icd_code"))
    closed = pl.col("closed")
    why = [("its visit is not in edstays", closed.is_null()), ("no ICD code", pl.col("code").is_null())]
    return facts(table, closed, pl.col("code"), why=why)


def _visits(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    """A visit is two facts: how the patient arrived, and where the patient went."""
    arrived = facts(piece, pl.col("intime"), path("ED_ARRIVAL", pl.col("arrival_transport").fill_null("unknown")))
    went = facts(piece, pl.col("outtime"), path("ED_DISCHARGE", pl.col("disposition").fill_null("unknown")))
    return pl.concat([arrived, went])


def _cultures_4(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    """What grew and what it resists, known when the result was stored."""
    time = pl.coalesce("storetime", end_of_day(pl.col("storedate")))
    names = ("spec_type_desc", "test_name", "org_name", "ab_name", "interpretation")
    why = [("no time of the result", time.is_null())]
    return facts(piece, time, path("MICRO", *(pl.col(name) for name in names)), why=why)


def _cultures_3(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """What grew and what it resists; the release tells no time of the result, so that of leaving the hospital."""
    names = ("spec_type_desc", "org_name", "ab_name", "interpretation")
    code = path("MICRO", *(pl.col(name) for name in names))
    return facts(known.with_left(piece), _LEFT, code, why=[("no time of the result", _LEFT.is_null())])


def _transfers(unit: str) -> Make:
    def make(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
        code = path("TRANSFER", pl.col("eventtype"), pl.col(unit))
        return facts(piece, pl.col("intime"), code)

    return make


def _services(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return facts(piece, pl.col("transfertime"), pl.lit("SERVICE//") + pl.col("curr_service"))


_STAY: dict[str, Kind] = {"subject_id": "integer", "hadm_id": "integer"}
_ICD_4: dict[str, Kind] = _STAY | {"icd_code": "text", "icd_version": "integer"}
_ICD_3: dict[str, Kind] = _STAY | {"icd9_code": "text"}
_DRG: dict[str, Kind] = _STAY | {"drg_type": "text", "drg_code": "text"}
_MICRO: dict[str, Kind] = _STAY | {
    **{"spec_type_desc": "text", "org_name": "text", "ab_name": "text", "interpretation": "text"}
}
_MOVE: dict[str, Kind] = {"subject_id": "integer", "eventtype": "text", "intime": "time"}
_SERVICE = Table("services", {"subject_id": "integer", "transfertime": "time", "curr_service": "text"}, _services)
CODED_4 = (
    Table("diagnoses_icd", _ICD_4, _icd("icd_code", procedure=False)),
    Table("procedures_icd", _ICD_4, _icd("icd_code", procedure=True)),
    Table("drgcodes", _DRG, _billed("DRG", "drg_type", "drg_code")),
    Table("hcpcsevents", _STAY | {"hcpcs_cd": "text"}, _billed("HCPCS", "hcpcs_cd")),
    Table("microbiologyevents", _MICRO | {"test_name": "text", "storetime": "time", "storedate": "time"}, _cultures_4),
    Table("transfers", _MOVE | {"careunit": "text"}, _transfers("careunit")),
    _SERVICE,
    Table(
        "edstays",
        {
            **{"subject_id": "integer", "intime": "time", "outtime": "time"},
            **{"arrival_transport": "text", "disposition": "text"},
        },
        _visits,
    ),
    Table(
        "diagnosis",
        {"subject_id": "integer", "stay_id": "integer", "icd_code": "text", "icd_version": "integer"},
        _emergency_diagnoses,
    ),
)
CODED_3 = (
    Table("diagnoses_icd", _ICD_3, _icd("icd9_code", procedure=False)),
    Table("procedures_icd", _ICD_3, _icd("icd9_code", procedure=True)),
    Table("drgcodes", _DRG, _billed("DRG", "drg_type", "drg_code")),
    Table("cptevents", _STAY | {"cpt_cd": "text"}, _billed("CPT", "cpt_cd")),
    Table("microbiologyevents", _MICRO, _cultures_3),
    Table("transfers", _MOVE | {"curr_careunit": "text"}, _transfers("curr_careunit")),
    _SERVICE,
)
