"""Laboratory values, vital signs, examinations and first-day scores as coded events with values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from experiments.sources.channels import APACHE_UNITS, APERIODIC, CHARTED, LAB, PERIODIC, YAIB, Channel
from experiments.sources.eicu.clinical import events_of, path_code
from experiments.sources.eicu.stays import DAY_MINUTES
from experiments.sources.eicu.tables import STAY, Table
from experiments.sources.tables import Kind, Parts
from fusion.component import UsageError

_EXAM_PREFIX = r"^notes/Progress Notes/Physical Exam/(Physical Exam/)?"
_EVENT = {"stay": pl.Int64, "offset": pl.Int64, "code": pl.String, "value": pl.Float64, "unit": pl.String}


def hourly_sums(table: pl.DataFrame) -> pl.DataFrame:
    """Sum the values of an hour; a mean is known when the last of its values is."""
    hour = pl.col("offset").floordiv(60)
    return table.group_by("stay", "code", "unit", hour.alias("hour")).agg(
        total=pl.col("value").sum(), count=pl.len().cast(pl.Int64), offset=pl.col("offset").max()
    )


def hourly_means(name: str, parts: Parts) -> pl.DataFrame:
    """Join the sums of an hour that lay in several pieces of the table, and divide."""
    found = parts.read(name)
    if found is None:
        return pl.DataFrame(schema=_EVENT)
    hours = found.group_by("stay", "code", "unit", "hour").agg(
        total=pl.col("total").sum(), count=pl.col("count").sum(), offset=pl.col("offset").max()
    )
    return hours.select("stay", "offset", "code", value=pl.col("total") / pl.col("count"), unit="unit")


def _melted(piece: pl.DataFrame, offset: str, channels: Mapping[str, Channel]) -> pl.DataFrame:
    """Turn one column a channel into one row a value."""
    long = piece.unpivot(index=["stay", offset], on=[name for name in channels if name in piece.columns])
    long = long.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    return long.select(
        stay="stay",
        offset=pl.col(offset).cast(pl.Int64),
        code=pl.col("variable").replace_strict({name: each.code for name, each in channels.items()}),
        value=pl.col("value").cast(pl.Float64),
        unit=pl.col("variable").replace_strict(
            {name: each.unit for name, each in channels.items()}, return_dtype=pl.String
        ),
    ).drop_nulls(["stay", "offset"])


def _apache_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """First-day worst values, known when the first day is over; -1 says missing."""
    channels = {name: Channel(f"APACHE//{name}", unit, "APACHE") for name, unit in APACHE_UNITS.items()}
    ready = piece.rename({STAY: "stay"}).with_columns(day=pl.lit(DAY_MINUTES, pl.Int64))
    return _melted(ready, "day", channels).filter(pl.col("value") != -1)


def _exam_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Examination findings; where the value is a number it is the event's value and not part of its code."""
    path = pl.col("physicalexampath").str.replace(_EXAM_PREFIX, "")
    value = pl.col("physicalexamtext").cast(pl.Float64, strict=False)
    bare = pl.when(value.is_null()).then(path).otherwise(path.str.replace(r"/-?[\d.]+$", ""))
    code = path_code("EXAM", bare, pl.col("physicalexamvalue"))
    table = piece.select(
        stay=STAY, noteoffset="physicalexamoffset", code=code, value=value, unit=pl.lit(None, pl.String)
    )
    return table.filter(~pl.col("code").str.contains("Obtain Options")).drop_nulls(["noteoffset", "code"])


def _exam_events(parts: Parts) -> pl.DataFrame:
    """Date an examination by the entry of the note it belongs to, which bears the same offset."""
    found, notes = parts.read("physicalExam"), parts.read("note")
    if found is None:
        return pl.DataFrame(schema=_EVENT)
    offset = pl.col("noteoffset")
    if notes is not None:
        entered = notes.group_by("stay", "noteoffset").agg(entered=pl.col("offset").max())
        found = found.join(entered, on=["stay", "noteoffset"], how="left")
        offset = pl.max_horizontal("entered", "noteoffset")
    return found.select("stay", "code", "value", "unit", offset=offset).unique()


def _lab_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Laboratory results, known from their last revision on; the unit is the channel's, else the table's."""
    name = pl.col("labname")
    other = pl.lit("LAB//") + name.str.to_lowercase().str.replace_all(r"[^a-z0-9]+", "_").str.strip_chars("_")
    table = piece.select(
        stay=STAY,
        offset=pl.max_horizontal("labresultoffset", "labresultrevisedoffset"),
        code=name.replace_strict({key: each.code for key, each in LAB.items()}, default=other),
        value="labresult",
        unit=name.replace_strict(
            {key: each.unit for key, each in LAB.items()},
            default=pl.col("labmeasurenamesystem"),
            return_dtype=pl.String,
        ),
    )
    return table.drop_nulls(["offset", "code", "value"])


def _periodic_rows(piece: pl.DataFrame) -> pl.DataFrame:
    return hourly_sums(_melted(piece.rename({STAY: "stay"}), "observationoffset", PERIODIC))


def _aperiodic_rows(piece: pl.DataFrame) -> pl.DataFrame:
    return hourly_sums(_melted(piece.rename({STAY: "stay"}), "observationoffset", APERIODIC))


def _charted_rows(piece: pl.DataFrame) -> pl.DataFrame:
    """Nurses' numbers of the kinds in `CHARTED`, known from their entry on."""
    name = pl.col("nursingchartcelltypevalname")
    table = piece.filter(name.is_in(list(CHARTED))).select(
        stay=STAY,
        offset=pl.max_horizontal("nursingchartoffset", "nursingchartentryoffset"),
        code=name.replace_strict({key: each.code for key, each in CHARTED.items()}, default=None),
        value=pl.col("nursingchartvalue").cast(pl.Float64, strict=False),
        unit=name.replace_strict(
            {key: each.unit for key, each in CHARTED.items()}, default=None, return_dtype=pl.String
        ),
    )
    return hourly_sums(table.drop_nulls(["offset", "code", "value"]))


def read_yaib(folder: Path) -> Iterator[pl.DataFrame]:
    """Read `dyn.parquet` of YAIB as events in pieces; an hour's values are known at the hour's end.

    Raises:
        UsageError: the file is absent, or lacks a column.
    """
    path = folder / "dyn.parquet"
    if not path.is_file():
        raise UsageError(f"{path} is missing; the hourly values of YAIB are a folder with dyn.parquet")
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    for name in ("stay_id", "time"):
        if name not in names:
            raise UsageError(f"{path}: missing column '{name}'; got {', '.join(names)}")
    if not set(YAIB) & set(names):
        raise UsageError(f"{path}: no known channel; wanted some of {', '.join(sorted(YAIB))}")
    for batch in file.iter_batches(batch_size=50_000):
        piece = pl.from_arrow(batch)
        assert isinstance(piece, pl.DataFrame)
        is_duration = isinstance(piece["time"].dtype, pl.Duration)
        minutes = pl.col("time").dt.total_minutes() if is_duration else (pl.col("time") * 60).cast(pl.Int64)
        ready = piece.with_columns(stay=pl.col("stay_id").cast(pl.Int64), end=minutes + 60)
        yield _melted(ready, "end", YAIB)


def yaib_events(parts: Parts) -> pl.DataFrame:
    """Return the hourly values as events."""
    found = parts.read("yaib")
    return pl.DataFrame(schema=_EVENT) if found is None else found


def _wide(names: Iterable[str], *, offset: str | None = "observationoffset") -> dict[str, Kind]:
    """Return the columns of a table that has one column a channel."""
    columns: dict[str, Kind] = {STAY: "integer"}
    if offset is not None:
        columns[offset] = "integer"
    for name in names:
        columns[name] = "number"
    return columns


MEASUREMENTS = (
    Table(
        "apacheApsVar",
        _wide(APACHE_UNITS, offset=None),
        _apache_rows,
        lambda parts: events_of("apacheApsVar", parts),
    ),
    Table(
        "physicalExam",
        {
            STAY: "integer",
            "physicalexamoffset": "integer",
            "physicalexampath": "text",
            "physicalexamvalue": "text",
            "physicalexamtext": "text",
        },
        _exam_rows,
        _exam_events,
    ),
    Table(
        "vitalAperiodic",
        _wide(APERIODIC),
        _aperiodic_rows,
        lambda parts: hourly_means("vitalAperiodic", parts),
    ),
)
HOURLY = (
    Table(
        "lab",
        {
            STAY: "integer",
            "labresultoffset": "integer",
            "labresultrevisedoffset": "integer",
            "labname": "text",
            "labresult": "number",
            "labmeasurenamesystem": "text",
        },
        _lab_rows,
        lambda parts: events_of("lab", parts),
    ),
    Table(
        "vitalPeriodic",
        _wide(PERIODIC),
        _periodic_rows,
        lambda parts: hourly_means("vitalPeriodic", parts),
    ),
    Table(
        "nurseCharting",
        {
            STAY: "integer",
            "nursingchartoffset": "integer",
            "nursingchartentryoffset": "integer",
            "nursingchartcelltypevalname": "text",
            "nursingchartvalue": "text",
        },
        _charted_rows,
        lambda parts: hourly_means("nurseCharting", parts),
    ),
)
