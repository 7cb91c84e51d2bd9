"""Numbers of the chart, the laboratory, the outputs and the outpatient clinic as facts."""

from __future__ import annotations

from functools import cache

import polars as pl

from experiments.data.units import implausible
from experiments.sources.facts import NO_VALUE, Why, end_of_day, facts, later, path, worded
from experiments.sources.ledger import OUTSIDE
from experiments.sources.mimic.facts import Known, Table
from experiments.sources.mimic.items import UNITS, URINE, chart_items, laboratory_codes
from experiments.sources.tables import Kind

_CODE, _VALUE = pl.col("code"), pl.col("scaled")
_PLACEHOLDER = 999_999
_TRIAGE = {
    "heartrate": "VITAL//heart_rate",
    "resprate": "VITAL//respiratory_rate",
    "o2sat": "VITAL//oxygen_saturation",
    "sbp": "VITAL//noninvasive_systolic",
    "dbp": "VITAL//noninvasive_diastolic",
    "temperature": "VITAL//temperature",
}
_INDEX = ["subject_id", "time"]


def measured(piece: pl.DataFrame, time: pl.Expr, why: Why = ()) -> pl.DataFrame:
    """Return facts of rows with code, scaled and unit; values outside what is plausible are none, one reason a code."""
    table = facts(piece, time, _CODE, _VALUE, pl.col("unit"), why=why)
    outside = implausible(_CODE, pl.col("numeric_value").cast(pl.Float64))
    named = pl.lit(OUTSIDE) + _CODE
    return table.with_columns(why=pl.coalesce("why", pl.when(outside).then(named)))


def itemid_named(names: dict[int, str]) -> pl.Expr:
    """Return the item's name, or its number where the dictionary is not there."""
    number = pl.col("itemid")
    if not names:
        return number.cast(pl.String)
    return number.replace_strict(names, default=number.cast(pl.String), return_dtype=pl.String)


@cache
def _items() -> pl.DataFrame:
    return chart_items()


def _chart(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    """Keep the vital signs; a temperature of 70 to 120 in a field for degrees Celsius is one in Fahrenheit."""
    table = piece.join(_items(), on="itemid", how="left", maintain_order="left")
    value, is_fio2 = pl.col("valuenum"), _CODE == "VITAL//fio2"
    scaled = value * pl.col("factor") + pl.col("offset")
    scaled = pl.when(is_fio2 & (value <= 1)).then(value * 100).when(is_fio2).then(value).otherwise(scaled)
    mistaken = (_CODE == "VITAL//temperature") & (pl.col("factor") == 1) & value.is_between(70, 120)
    scaled = pl.when(mistaken).then((value - 32) / 1.8).otherwise(scaled)
    why = [("not among the vital signs that are taken", _CODE.is_null())]
    if "error" in piece.columns:
        why.append(("marked as an error", pl.col("error") == 1))
    return measured(table.with_columns(scaled=scaled), later("charttime", "storetime"), why)


def _laboratory(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Keep results that are numbers, under the code that other databases use, else the name and the fluid."""
    name = itemid_named(dict(known.labs)).str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")
    shared = laboratory_codes()
    code = pl.col("itemid").replace_strict(shared, default=pl.lit("LAB//") + name, return_dtype=pl.String)
    unit = code.replace_strict(UNITS, default=pl.col("valueuom"), return_dtype=pl.String)
    table = piece.with_columns(code=code, scaled="valuenum", unit=unit)
    below = pl.col("itemid").is_in(list(shared)) & (_CODE != "LAB//base_excess") & (_VALUE < 0)
    why = [("a placeholder, no value", _VALUE >= _PLACEHOLDER), ("below zero", below)]
    times = [name for name in ("charttime", "storetime") if name in piece.columns]
    return measured(table, later(*times), why)


def _outputs(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Name urine alike whatever it came by; other outputs by the item."""
    other = path("OUTPUT", itemid_named(dict(known.items)))
    is_urine = pl.col("itemid").is_in(URINE)
    code = pl.when(is_urine).then(pl.lit("VITAL//urine")).otherwise(other)
    unit = pl.when(is_urine).then(pl.lit("mL")).otherwise(worded(pl.col("valueuom")))
    table = piece.with_columns(code=code, scaled="value", unit=unit)
    why = [("marked as an error", pl.col("iserror") == 1)] if "iserror" in piece.columns else []
    return measured(table, later("charttime", "storetime"), why)


def _clinic(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    """Weight, height, body mass index and blood pressure of the outpatient clinic; a pressure is two facts."""
    name, text = pl.col("result_name"), pl.col("result_value")
    one = text.cast(pl.Float64, strict=False)
    pressure = text.str.extract_groups(r"^\s*(\d+)\s*/\s*(\d+)\s*$")
    is_pressure = name.str.starts_with("Blood Pressure")
    kinds = {"Weight (Lbs)": "weight", "Weight": "weight", "Height (Inches)": "height", "Height": "height"}
    kind = name.replace_strict(kinds | {"BMI (kg/m2)": "bmi", "BMI": "bmi"}, default=None, return_dtype=pl.String)
    factor = pl.when(kind == "weight").then(0.45359237).when(kind == "height").then(2.54).otherwise(1.0)
    unit = kind.replace_strict({"weight": "kg", "height": "cm", "bmi": "kg/m2"}, default=None, return_dtype=pl.String)
    single = piece.filter(~is_pressure.fill_null(value=False))
    single = single.with_columns(code=pl.lit("VITAL//") + kind, scaled=one * factor, unit=unit)
    double = piece.filter(is_pressure)
    halves = [
        double.with_columns(
            code=pl.lit(f"VITAL//noninvasive_{half}"),
            scaled=pressure.struct.field(str(place)).cast(pl.Float64, strict=False),
            unit=pl.lit("mmHg"),
        )
        for place, half in ((1, "systolic"), (2, "diastolic"))
    ]
    why = [("not among the results that are taken", _CODE.is_null())]
    return pl.concat([measured(each, end_of_day(pl.col("chartdate")), why) for each in (single, *halves)])


def _vital_columns(piece: pl.DataFrame, time: pl.Expr) -> pl.DataFrame:
    """Turn one column a vital sign into facts; a row without any number is one fact without a value."""
    names = list(_TRIAGE)
    table = piece.with_columns(time=time, temperature=(pl.col("temperature") - 32) / 1.8)
    long = table.unpivot(index=_INDEX, on=names, variable_name="name", value_name="scaled").drop_nulls("scaled")
    code = pl.col("name").replace_strict(_TRIAGE, return_dtype=pl.String)
    long = long.with_columns(code=code).with_columns(
        unit=_CODE.replace_strict(UNITS, default=None, return_dtype=pl.String)
    )
    empty = table.filter(pl.all_horizontal(pl.col(name).is_null() for name in names))
    nothing = facts(empty, pl.col("time"), pl.lit("VITAL"), why=[(NO_VALUE, pl.lit(value=True))])
    return pl.concat([measured(long, pl.col("time")), nothing])


def _triage(piece: pl.DataFrame, known: Known) -> pl.DataFrame:
    """Vital signs, acuity and the chief complaint at triage, known from the arrival on; the complaint is a note."""
    table, arrived = known.with_visit(piece), pl.col("arrived")
    said = table.filter(pl.col("chiefcomplaint").is_not_null())
    graded = table.filter(pl.col("acuity").is_not_null())
    return pl.concat(
        [
            _vital_columns(table, arrived),
            facts(said, arrived, pl.lit("NOTE//chief_complaint"), text=pl.lit("Chief complaint: ") + "chiefcomplaint"),
            facts(graded, arrived, pl.lit("TRIAGE//acuity"), pl.col("acuity")),
        ]
    )


def _emergency_vitals(piece: pl.DataFrame, _known: Known) -> pl.DataFrame:
    return _vital_columns(piece, pl.col("charttime"))


_ROW: dict[str, Kind] = {"subject_id": "integer", "itemid": "integer", "charttime": "time", "storetime": "time"}
_NUMBER: dict[str, Kind] = _ROW | {"valuenum": "number"}
_LABEVENTS: dict[str, Kind] = {k: v for k, v in _NUMBER.items() if k != "storetime"} | {"valueuom": "text"}
_OUTPUTS: dict[str, Kind] = _ROW | {"value": "number", "valueuom": "text"}
_VITALS: dict[str, Kind] = dict.fromkeys(_TRIAGE, "number")
MEASURED_4 = (
    Table("chartevents", _NUMBER, _chart),
    Table("labevents", _LABEVENTS | {"storetime": "time"}, _laboratory),
    Table("outputevents", _OUTPUTS, _outputs),
    Table(
        "omr",
        {"subject_id": "integer", "chartdate": "time", "result_name": "text", "result_value": "text"},
        _clinic,
    ),
    Table(
        "triage",
        _VITALS | {"subject_id": "integer", "stay_id": "integer", "acuity": "number", "chiefcomplaint": "text"},
        _triage,
    ),
    Table("vitalsign", _VITALS | {"subject_id": "integer", "charttime": "time"}, _emergency_vitals),
)
MEASURED_3 = (
    Table("chartevents", _NUMBER | {"error": "integer"}, _chart),
    Table("labevents", _LABEVENTS, _laboratory),
    Table("outputevents", _OUTPUTS | {"iserror": "integer"}, _outputs),
)
