"""Unit stays on one calendar a patient: what is known of their order, and nothing more."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from experiments.sources.eicu.tables import STAY
from experiments.sources.tables import Kind, check_key, read_pieces
from fusion.component import UsageError

DAY_MINUTES = 24 * 60
GAP = timedelta(days=60)
LATE = timedelta(days=30)
PATIENT: dict[str, Kind] = {
    STAY: "integer",
    "patienthealthsystemstayid": "integer",
    "uniquepid": "text",
    "gender": "text",
    "age": "text",
    "ethnicity": "text",
    "hospitalid": "integer",
    "admissionheight": "number",
    "admissionweight": "number",
    "hospitaladmitoffset": "integer",
    "hospitaladmitsource": "text",
    "hospitaldischargeyear": "integer",
    "hospitaldischargeoffset": "integer",
    "hospitaldischargelocation": "text",
    "hospitaldischargestatus": "text",
    "unittype": "text",
    "unitadmitsource": "text",
    "unitvisitnumber": "integer",
    "unitstaytype": "text",
    "unitdischargeoffset": "integer",
    "unitdischargelocation": "text",
}
HOSPITAL: dict[str, Kind] = {
    "hospitalid": "integer",
    "numbedscategory": "text",
    "teachingstatus": "text",
    "region": "text",
}
_NEEDED = (
    "patienthealthsystemstayid",
    "uniquepid",
    "hospitaladmitoffset",
    "hospitaldischargeoffset",
    "unitdischargeoffset",
)


def read_stays(path: Path, patients_per_shard: int) -> pl.DataFrame:
    """Read the patient table and place every unit stay on its patient's calendar.

    Adds to the table: stay, subject_id (1, 2, ... in the order of uniquepid, which is dropped), shard,
    age_years, site, admitted (unit admission), opened and closed (first and last moment of the hospital
    stay), left_hospital, and `ordered`: whether all that precedes the stay on the calendar is known to have
    preceded it.

    Raises:
        UsageError: a column or key is missing, or a stay is there twice.
    """
    pieces = list(read_pieces(path, PATIENT))
    if not pieces:
        raise UsageError(f"{path}: no unit stay in it")
    table = pl.concat(pieces)
    check_key(path, table, STAY, _NEEDED, "a unit stay")
    table = table.with_columns(
        stay=pl.col(STAY),
        subject_id=pl.col("uniquepid").rank("dense").cast(pl.Int64),
        age_years=pl.col("age").str.replace(r"^> ?89$", "90").cast(pl.Float32, strict=False),
        site=pl.col("hospitalid").cast(pl.String),
        long=(pl.col("unitdischargeoffset") > DAY_MINUTES) & (pl.col("hospitaldischargeoffset") > DAY_MINUTES),
    )
    table = table.with_columns(shard=(pl.col("subject_id") - 1) // patients_per_shard).drop("uniquepid", STAY)
    return _on_calendar(table).sort("subject_id", "admitted", "unitvisitnumber", "stay")


def with_hospital(stays: pl.DataFrame, path: Path | None) -> pl.DataFrame:
    """Add what the hospital table tells of each stay's hospital; nulls where there is no such table."""
    pieces = [] if path is None else list(read_pieces(path, HOSPITAL))
    if not pieces:
        return stays.with_columns(pl.lit(None, pl.String).alias(name) for name in list(HOSPITAL)[1:])
    table = pl.concat(pieces).unique("hospitalid", keep="first", maintain_order=True)
    return stays.join(table, on="hospitalid", how="left", maintain_order="left")


def _on_calendar(stays: pl.DataFrame) -> pl.DataFrame:
    minutes = "hospitaladmitoffset"
    hospital = _in_order(_hospital_stays(stays))
    placed = hospital.with_columns(pl.Series("anchor", _anchors(hospital), dtype=pl.Datetime("us")))
    columns = ["patienthealthsystemstayid", "subject_id", "anchor", "start", "end", "ordered", "after_death"]
    table = stays.join(placed.select(columns), on=["patienthealthsystemstayid", "subject_id"])
    return table.with_columns(
        admitted=pl.col("anchor") - pl.duration(minutes=pl.col(minutes)),
        opened=pl.col("anchor") + pl.duration(minutes=pl.col("start")),
        closed=pl.col("anchor") + pl.duration(minutes=pl.col("end")),
        left_hospital=pl.col("anchor") + pl.duration(minutes=pl.col("hospitaldischargeoffset") - pl.col(minutes)),
    ).drop("anchor", "start", "end")


def _hospital_stays(stays: pl.DataFrame) -> pl.DataFrame:
    """Return one row a hospital stay, minutes from hospital admission (unit admission may precede it)."""
    unit = -pl.col("hospitaladmitoffset")
    return stays.group_by("subject_id", "patienthealthsystemstayid").agg(
        year=pl.col("hospitaldischargeyear").min(),
        age=pl.col("age_years").min(),
        long=pl.col("long").any(),
        first=pl.col("stay").min(),
        dead=(pl.col("hospitaldischargestatus") == "Expired").fill_null(value=False).any(),
        start=pl.min_horizontal(unit.min(), pl.lit(0)),
        end=pl.max_horizontal(
            (unit + pl.col("unitdischargeoffset")).max(), (unit + pl.col("hospitaldischargeoffset")).max()
        ),
    )


def _in_order(hospital: pl.DataFrame) -> pl.DataFrame:
    """Sort by year of discharge and age. Among stays alike in both only the first may be predicted for.

    That one has a unit stay of more than a day if any has, and is otherwise arbitrary (the lowest id): it
    must not depend on the outcome. Those after it may in truth have preceded it and the other way round.
    """
    subject = "subject_id"
    known_year = pl.when(pl.col("year").is_null().any().over(subject)).then(0).otherwise(pl.col("year"))
    hospital = hospital.with_columns(year_key=known_year)
    alike = [subject, "year_key"]
    known_age = pl.when(pl.col("age").is_null().any().over(alike)).then(0.0).otherwise(pl.col("age"))
    hospital = hospital.with_columns(age_key=known_age)
    order = [subject, "year_key", "age_key", "long", "first"]
    hospital = hospital.sort(order, descending=[False, False, False, True, False])
    deaths = pl.col("dead").cast(pl.Int32).cum_sum().over(subject) - pl.col("dead").cast(pl.Int32)
    return hospital.with_columns(
        ordered=pl.int_range(pl.len()).over(subject, "year_key", "age_key") == 0, after_death=deaths > 0
    )


def _anchors(hospital: pl.DataFrame) -> list[datetime]:
    """Return when each hospital stay begins: 1 January of its year, or 60 days after the stay before."""
    anchors: list[datetime] = []
    subject, free = -1, datetime.min
    for each in hospital.select("subject_id", "year", "start", "end").iter_rows():
        if each[0] != subject:
            subject, free = each[0], datetime.min
        anchor = datetime(each[1] or 2014, 1, 1)
        earliest = free + timedelta(minutes=-each[2])
        if anchor < earliest:
            anchor = datetime(earliest.year, earliest.month, earliest.day) + timedelta(days=1)
        anchors.append(anchor)
        free = anchor + timedelta(minutes=each[3]) + GAP
    return anchors


def dated(events: pl.DataFrame, stays: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Give events of stays a subject, time and site; return them and how many were left out.

    Times before the hospital stay are typing errors or facts of before and become its first moment; an event
    more than 30 days after its end is left out. So no event falls into another hospital stay.
    """
    wanted = stays.select("stay", "subject_id", "site", "admitted", "opened", "closed")
    table = events.join(wanted, on="stay").with_columns(
        time=pl.max_horizontal(pl.col("admitted") + pl.duration(minutes=pl.col("offset")), pl.col("opened")).cast(
            pl.Datetime("us")
        )
    )
    kept = table.filter(pl.col("time") <= pl.col("closed") + LATE)
    return kept.drop("stay", "offset", "admitted", "opened", "closed"), table.height - kept.height


def stay_events(stays: pl.DataFrame) -> pl.DataFrame:
    """Return what the patient table tells: static facts, what is known at admission, outcomes at discharge.

    Shape:
        columns subject_id, site, time (null: static), code, numeric_value, unit.
    """
    first = stays.sort("subject_id", "admitted", "stay").group_by("subject_id", maintain_order=True)
    facts = first.agg(pl.col("site", "gender", "ethnicity", "age_years").drop_nulls().first())
    sex = pl.col("gender").replace_strict({"Male": "M", "Female": "F"}, default=None)
    hospital = stays.unique("patienthealthsystemstayid", keep="first", maintain_order=True)
    dead = hospital.filter(pl.col("hospitaldischargestatus") == "Expired")
    unit_left = pl.col("admitted") + pl.duration(minutes=pl.col("unitdischargeoffset"))
    opened = pl.col("admitted") + pl.duration(minutes=pl.col("hospitaladmitoffset"))
    parts = [
        _facts(facts, None, "GENDER", sex),
        _facts(facts, None, "ETHNICITY", pl.col("ethnicity")),
        _facts(facts, None, "AGE", None, pl.col("age_years"), "years"),
        _facts(hospital, opened, "HOSPITAL_ADMISSION", pl.col("hospitaladmitsource").fill_null("unknown")),
        _facts(stays, pl.col("admitted"), "UNIT_ADMISSION", pl.col("unittype").fill_null("unknown")),
        _facts(stays, pl.col("admitted"), "UNIT_ADMIT_SOURCE", pl.col("unitadmitsource")),
        _facts(stays, pl.col("admitted"), "UNIT_STAY_TYPE", pl.col("unitstaytype")),
        _facts(stays, pl.col("admitted"), "HOSPITAL_REGION", pl.col("region")),
        _facts(stays, pl.col("admitted"), "HOSPITAL_BEDS", pl.col("numbedscategory")),
        _facts(stays, pl.col("admitted"), "HOSPITAL_TEACHING", pl.col("teachingstatus")),
        _facts(stays, pl.col("admitted"), "VITAL//height", None, pl.col("admissionheight"), "cm"),
        _facts(stays, pl.col("admitted"), "VITAL//weight", None, pl.col("admissionweight"), "kg"),
        _facts(stays, unit_left, "UNIT_DISCHARGE", pl.col("unitdischargelocation").fill_null("unknown")),
        _facts(
            hospital,
            pl.col("left_hospital"),
            "HOSPITAL_DISCHARGE",
            pl.col("hospitaldischargelocation").fill_null("unknown"),
        ),
        _facts(dead, pl.col("left_hospital"), "MEDS_DEATH", None),
    ]
    return pl.concat(parts)


def _facts(
    table: pl.DataFrame,
    time: pl.Expr | None,
    code: str,
    kind: pl.Expr | None,
    value: pl.Expr | None = None,
    unit: str | None = None,
) -> pl.DataFrame:
    """Return an event a row; rows whose kind or value is missing have none."""
    rows = table.select(
        "subject_id",
        "site",
        time=(pl.lit(None) if time is None else time).cast(pl.Datetime("us")),
        code=pl.lit(code) if kind is None else pl.lit(f"{code}//") + kind,
        numeric_value=(pl.lit(None) if value is None else value).cast(pl.Float32),
        unit=pl.lit(unit, pl.String),
    )
    rows = rows.filter(pl.col("code").is_not_null())
    return rows if value is None else rows.filter(pl.col("numeric_value") > 0)
