"""Diagnoses, treatments, admission diagnoses, allergies and past history as coded events."""

from __future__ import annotations

import polars as pl

from experiments.sources.eicu.tables import STAY, Table
from experiments.sources.icd import icd_code
from experiments.sources.tables import Parts

_HISTORY_PREFIX = r"^notes/Progress Notes/Past History/(Organ Systems/|Past History Obtain Options/)?"

_SLASHED = ("Hematology/Oncology", "Ears/Nose/Mouth/Throat")


def path_code(vocabulary: str, path: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Make a code of a slash path: `a/b / c/d` becomes `VOCABULARY//a|b / c|d`.

    Slashes inside the value that ends the path, and inside names known to have some, are no separators.
    """
    ends = path.str.ends_with(pl.lit("/") + value).fill_null(value=False)
    bars = pl.when(ends).then(path.str.head(path.str.len_chars() - value.str.len_chars() - 1)).otherwise(path)
    for name in _SLASHED:
        bars = bars.str.replace_all(name, name.replace("/", "\x00"), literal=True)
    bars = bars.str.replace_all(" / ", " \x00 ", literal=True).str.replace_all("/", "|", literal=True)
    whole = pl.when(ends).then(bars + "|" + value).otherwise(bars)
    return pl.lit(f"{vocabulary}//") + whole.str.replace_all("\x00", "/", literal=True)


def events_of(name: str, parts: Parts) -> pl.DataFrame:
    """Return a table's parts as they are, each fact once; they are events already."""
    found = parts.read(name)
    schema = {"stay": pl.Int64, "offset": pl.Int64, "code": pl.String}
    return pl.DataFrame(schema=schema) if found is None else found.unique()


def _diagnosis_rows(piece: pl.DataFrame) -> pl.DataFrame:
    codes = piece["icd9code"].drop_nulls().unique().to_list()
    known = {text: [code for each in text.split(",") if (code := icd_code(each))] for text in codes}
    icd = pl.DataFrame(
        {"icd9code": list(known), "icd": [list(dict.fromkeys(each)) for each in known.values()]},
        schema={"icd9code": pl.String, "icd": pl.List(pl.String)},
    )
    return (
        piece.select(
            stay=STAY,
            offset="diagnosisoffset",
            path=pl.lit("DX//") + pl.col("diagnosisstring"),
            icd9code="icd9code",
        )
        .join(icd, on="icd9code", how="left", maintain_order="left")
        .drop("icd9code")
        .drop_nulls("offset")
    )


def _diagnosis_events(parts: Parts) -> pl.DataFrame:
    found = parts.read("diagnosis")
    if found is None:
        return pl.DataFrame(schema={"stay": pl.Int64, "offset": pl.Int64, "code": pl.String})
    paths = found.select("stay", "offset", code="path")
    icd = found.select("stay", "offset", code="icd").explode("code")
    return pl.concat([paths, icd]).drop_nulls().unique()


def _treatment_rows(piece: pl.DataFrame) -> pl.DataFrame:
    code = pl.lit("TREATMENT//") + pl.col("treatmentstring")
    return piece.select(stay=STAY, offset="treatmentoffset", code=code).drop_nulls()


def _admission_rows(piece: pl.DataFrame) -> pl.DataFrame:
    path = pl.col("admitdxpath").str.replace(r"^admission diagnosis\|", "")
    code = pl.lit("ADMISSION_DX//") + path
    return piece.select(stay=STAY, offset="admitdxenteredoffset", code=code).drop_nulls()


def _allergy_rows(piece: pl.DataFrame) -> pl.DataFrame:
    name = pl.col("allergyname").str.to_lowercase().str.strip_chars()
    code = pl.lit("ALLERGY//") + name
    return piece.select(stay=STAY, offset="allergyenteredoffset", code=code).drop_nulls()


def _history_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Keep the phrases; the note of past history and the coded events are made of the same rows."""
    path = pl.col("pasthistorypath").str.replace(_HISTORY_PREFIX, "")
    table = piece.select(
        stay=STAY,
        offset="pasthistoryenteredoffset",
        path=path,
        value="pasthistoryvalue",
        text="pasthistoryvaluetext",
        row="pasthistoryid",
    )
    return table.filter(pl.col("path").is_not_null() & (pl.col("path") != "Performed")).drop_nulls("offset")


def _history_events(parts: Parts) -> pl.DataFrame:
    found = parts.read("pastHistory")
    if found is None:
        return pl.DataFrame(schema={"stay": pl.Int64, "offset": pl.Int64, "code": pl.String})
    return found.select("stay", "offset", code=path_code("HISTORY", pl.col("path"), pl.col("value"))).unique()


CLINICAL = (
    Table(
        "diagnosis",
        {STAY: "integer", "diagnosisoffset": "integer", "diagnosisstring": "text", "icd9code": "text"},
        _diagnosis_rows,
        _diagnosis_events,
    ),
    Table(
        "treatment",
        {STAY: "integer", "treatmentoffset": "integer", "treatmentstring": "text"},
        _treatment_rows,
        lambda parts: events_of("treatment", parts),
    ),
    Table(
        "admissionDx",
        {STAY: "integer", "admitdxenteredoffset": "integer", "admitdxpath": "text"},
        _admission_rows,
        lambda parts: events_of("admissionDx", parts),
    ),
    Table(
        "allergy",
        {STAY: "integer", "allergyenteredoffset": "integer", "allergyname": "text"},
        _allergy_rows,
        lambda parts: events_of("allergy", parts),
    ),
    Table(
        "pastHistory",
        {
            STAY: "integer",
            "pasthistoryid": "integer",
            "pasthistoryenteredoffset": "integer",
            "pasthistorypath": "text",
            "pasthistoryvalue": "text",
            "pasthistoryvaluetext": "text",
        },
        _history_rows,
        _history_events,
    ),
)
