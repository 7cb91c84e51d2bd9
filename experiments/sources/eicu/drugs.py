"""Drugs ordered, infused and taken before admission as coded events."""

from __future__ import annotations

import polars as pl

from experiments.sources.eicu.clinical import events_of
from experiments.sources.eicu.tables import STAY, Table
from experiments.sources.tables import Parts

_NO_DRUG = r"^(volume|ivf|crystalloids?|.*\(ml\).*)$"


def drug_name(text: pl.Expr) -> pl.Expr:
    """Reduce a drug's text to its name: no container, strength, dose or form.

    `5 ML VIAL : DILTIAZEM HCL 25 MG/5ML IV SOLN` becomes `diltiazem hcl`.
    """
    name = text.str.to_lowercase().str.replace_all(r"\(.*?\)", " ")
    name = name.str.replace(r"^\s*[\d.,]+\s*\w+[^:]*?(:|\s-\s)\s*", "")
    name = name.str.replace(r"(\s|^)[\d.,]+.*$", "").str.replace(r"\s(in|:)\s.*$", "").str.replace(r"\s*:.*$", "")
    name = name.str.replace_all(r"\s+", " ").str.strip_chars(" -:,.*")
    return pl.when(name == "").then(None).otherwise(name)


def _code(prefix: str) -> pl.Expr:
    """Name a drug by its HICL number, and where there is none by its name."""
    number = pl.col("drughiclseqno")
    by_number = pl.lit(f"{prefix}//HICL//") + number.cast(pl.String)
    return pl.when(number > 0).then(by_number).otherwise(pl.lit(f"{prefix}//NAME//") + drug_name(pl.col("drugname")))


def _medication_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Leave cancelled orders out; a drug is known from its order on, or its start if that has no time."""
    cancelled = (pl.col("drugordercancelled") == "Yes").fill_null(value=False)
    return (
        piece.filter(~cancelled)
        .select(
            stay=STAY,
            offset=pl.coalesce("drugorderoffset", "drugstartoffset"),
            code=_code("DRUG"),
            name=drug_name(pl.col("drugname")),
        )
        .drop_nulls(["offset", "code"])
    )


def _named_events(table: str, parts: Parts) -> pl.DataFrame:
    """Return the events; the names beside them only describe the codes."""
    return events_of(table, parts).select("stay", "offset", "code").unique()


def _home_rows(piece: pl.DataFrame) -> pl.DataFrame:
    name = drug_name(pl.col("drugname"))
    table = piece.select(stay=STAY, offset="drugenteredoffset", code=_code("HOME_DRUG"), name=name)
    return table.drop_nulls(["offset", "code"])


def _infusion_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Keep the drug with the unit of its rate in the code: rates in different units cannot be compared."""
    text = pl.col("drugname").str.strip_chars()
    unit = text.str.extract(r"\(([^()]+)\)$").str.strip_chars()
    name = drug_name(text.str.replace(r"\([^()]*\)$", ""))
    rate = pl.col("drugrate").cast(pl.Float64, strict=False)
    whole = pl.lit("INFUSION//") + name + pl.when(unit.is_null()).then(pl.lit("")).otherwise(" (" + unit + ")")
    table = piece.select(
        stay=STAY,
        offset="infusionoffset",
        code=pl.when(name.str.contains(_NO_DRUG)).then(None).otherwise(whole),
        value=pl.when(unit.is_null()).then(None).otherwise(rate),
        unit=unit,
    )
    return table.drop_nulls(["offset", "code"])


DRUGS = (
    Table(
        "medication",
        {
            STAY: "integer",
            "drugorderoffset": "integer",
            "drugstartoffset": "integer",
            "drugordercancelled": "text",
            "drugname": "text",
            "drughiclseqno": "integer",
        },
        _medication_rows,
        lambda parts: _named_events("medication", parts),
    ),
    Table(
        "admissionDrug",
        {STAY: "integer", "drugenteredoffset": "integer", "drugname": "text", "drughiclseqno": "integer"},
        _home_rows,
        lambda parts: _named_events("admissionDrug", parts),
    ),
    Table(
        "infusionDrug",
        {STAY: "integer", "infusionoffset": "integer", "drugname": "text", "drugrate": "text"},
        _infusion_rows,
        lambda parts: events_of("infusionDrug", parts),
    ),
)
