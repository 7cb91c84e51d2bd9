"""A hospital's own tables: a column a measurement, lengths of time instead of times, one moment for all rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from toy_tabular import events

from experiments.sources.moments import Clock
from experiments.sources.tabular import Mapping, convert_tables
from fusion.component import UsageError

START = datetime(2000, 1, 1)
WIDE: dict[str, Any] = {
    "file": "hours",
    "patient": "stay",
    "time": {"column": "hour", "since": "2000-01-01"},
    "code": "{kind}//{}",
    "values": ["hr", "temp"],
    "site": "unit",
}
HOURS = pl.DataFrame(
    {
        "stay": [1, 1, 2],
        "hour": [0.0, 1.5, 0.0],
        "kind": ["V", "V", "W"],
        "hr": [80.0, None, 90.0],
        "temp": [None, float("nan"), 37.5],
        "unit": ["A", "A", "B"],
    }
)
DIED = {"name": "died", "file": "died", "patient": "stay", "time": {"at": "2000-01-02 01:00"}, "value": "died"}


def converted(out: Path, table: dict[str, Any], hours: Any = HOURS, label: dict[str, Any] = DIED) -> dict[str, Any]:
    mapping = Mapping.model_validate({"name": "wide", "events": [table], "labels": [label]})
    died = pl.DataFrame({"stay": [1, 2], "died": [True, False], "hour": [24, 25]})
    return convert_tables(mapping, out, frames={"hours": hours, "died": died})


def test_each_filled_cell_is_an_event_and_each_empty_one_is_counted(tmp_path: Path) -> None:
    summary = converted(tmp_path / "out", WIDE)
    assert events(tmp_path / "out") == [
        (1, START, "V//hr", 80.0, None),
        (2, START, "W//hr", 90.0, None),
        (2, START, "W//temp", 37.5, None),
    ]
    assert summary["tables"]["hours"] == {
        "rows": 3,
        "facts": 6,
        "events": 3,
        "left_out": {"no numeric value": 3},
    }
    found = pl.concat(pl.read_parquet(path) for path in (tmp_path / "out" / "data").glob("*.parquet"))
    assert dict(found.select("subject_id", "site").unique().iter_rows()) == {1: "A", 2: "B"}


def test_a_moment_for_all_rows_is_when_everybody_is_predicted(tmp_path: Path) -> None:
    converted(tmp_path / "out", WIDE)
    labels = pl.read_parquet(tmp_path / "out" / "labels" / "died.parquet")
    assert labels["prediction_time"].to_list() == [datetime(2000, 1, 2, 1)] * 2
    converted(tmp_path / "hourly", WIDE, label=DIED | {"time": WIDE["time"]})
    labels = pl.read_parquet(tmp_path / "hourly" / "labels" / "died.parquet")
    assert labels["prediction_time"].to_list() == [datetime(2000, 1, 2, 0), datetime(2000, 1, 2, 1)]


@pytest.mark.parametrize(
    ("lengths", "unit"),
    [
        (pl.Series([90, None], dtype=pl.Int64), "minutes"),
        (pl.Series(["1.5", "soon"]), "hours"),
        (pl.Series([0.0625, float("nan")]), "days"),
        (pl.Series([timedelta(minutes=90), None]), "seconds"),
        (pl.Series([1.5, 1e9]), "hours"),  # beyond a century nothing is a length of time in a record
    ],
)
def test_lengths_of_time_count_from_a_moment_and_no_zone_moves_them(lengths: pl.Series, unit: Any) -> None:
    clock = Clock(zone="Europe/Berlin", since=START, unit=unit)
    assert clock.read(lengths)[0].to_list() == [START + timedelta(hours=1.5), None]


def test_lengths_that_are_times_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hours: row 0: column 'hour' must be a time: hours since 2000-01-01"):
        converted(tmp_path / "out", WIDE, HOURS.with_columns(hour=pl.lit("2000-01-01 10:00")))
    with pytest.raises(UsageError, match="unknown column 'pulse'"):
        converted(tmp_path / "other", WIDE | {"values": ["pulse"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"code": "V//hr"}, "values needs {} in code"),
        ({"values": []}, "values needs {} in code"),
        ({"value": "hr"}, "give value, a column, or values, a list of columns"),
        ({"unit": "{}"}, "a column's name goes between braces"),
        ({"time": {}}, "name a column, or at: a moment for all rows"),
        ({"time": {"column": "hour", "at": "2000-01-01"}}, "name a column, or at: a moment for all rows"),
        ({"time": {"column": "hour", "since": "2000-01-01", "zone": "UTC"}}, "since counts lengths of time"),
        ({"time": {"column": "hour", "since": "new year"}}, "'new year' is no moment; write it like 2000-01-31"),
    ],
)
def test_descriptions_of_wide_tables_that_are_wrong_say_so(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - pydantic's own; the text is what counts
        Mapping.model_validate({"name": "wide", "events": [WIDE | changes]})
    assert line in str(error.value)
