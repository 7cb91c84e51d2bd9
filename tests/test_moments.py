"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from experiments.sources.moments import Clock, check_format, check_zone
from fusion.component import UsageError

NEVER = None


def read(clock: Clock, *texts: str | None) -> list[datetime | None]:
    return clock.read(pl.Series(texts, dtype=pl.String))[0].to_list()


def test_iso_times_and_dates_at_the_end_of_their_day() -> None:
    found = read(Clock(), "2024-01-05 10:00:00", "2024-01-05T10:00", "2024-01-05", "soon", None)
    noon = datetime(2024, 1, 5, 10)
    assert found == [noon, noon, datetime(2024, 1, 5, 23, 59, 59), NEVER, NEVER]
    assert read(Clock(early=True), "2024-01-05") == [datetime(2024, 1, 5)]


def test_offsets_and_zones_become_utc() -> None:
    clock = Clock(zone="Europe/Berlin")
    texts = (
        "2024-01-05 10:00",
        "2024-07-05 10:00",
        "2024-01-05 10:00Z",
        "2024-01-05 10:00 +05:30",
        "2024-01-05 10:00 UTC",
    )
    hours = [time and (time.hour, time.minute) for time in read(clock, *texts)]
    assert hours == [(9, 0), (8, 0), (10, 0), (4, 30), (10, 0)]


def test_an_hour_that_comes_twice_counts_late_unless_its_offset_tells_and_one_that_never_comes_is_none() -> None:
    clock = Clock(zone="Europe/Berlin")
    found = read(clock, "2024-10-27 02:30", "2024-10-27 02:30+02:00", "2024-03-31 02:30")
    assert found == [datetime(2024, 10, 27, 1, 30), datetime(2024, 10, 27, 0, 30), NEVER]


def test_midnight_may_stand_for_a_date() -> None:
    clock = Clock(zone="Europe/Berlin", midnight="date")
    end = datetime(2024, 1, 5, 22, 59, 59)
    assert read(clock, "2024-01-05 00:00:00", "2024-01-04T23:00:00Z", "2024-01-05 00:01") == [
        end,
        end,
        datetime(2024, 1, 4, 23, 1),
    ]


def test_typed_columns_and_formats() -> None:
    aware = pl.Series([datetime(2024, 1, 5, 10, tzinfo=UTC)]).dt.cast_time_unit("ns")
    assert Clock(zone="UTC").read(aware)[0].to_list() == [datetime(2024, 1, 5, 10)]
    assert Clock().read(aware)[1].to_list() == [True]  # has a zone, and nothing says that of the others
    assert Clock().read(pl.Series([date(2024, 1, 5)]))[0].to_list() == [datetime(2024, 1, 5, 23, 59, 59)]
    assert read(Clock("%d.%m.%Y"), "05.01.2024", "2024-01-05") == [datetime(2024, 1, 5, 23, 59, 59), NEVER]
    assert read(Clock("%d.%m.%Y %H:%M %z", "UTC"), "05.01.2024 10:00 +0100") == [datetime(2024, 1, 5, 9)]


def test_zones_and_formats_are_checked() -> None:
    assert check_zone("UTC"), check_format("%Y")
    with pytest.raises(UsageError, match="did you mean 'Asia/Tokyo'"):
        check_zone("Asia/Tokio")
    for text in ("dd.mm.yyyy", "%Q"):
        with pytest.raises(UsageError, match="is no format of a time; for example"):
            check_format(text)
