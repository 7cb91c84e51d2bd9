"""Times as people write them, as moments that can be compared: naive ones, or UTC where the zone is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Literal
from zoneinfo import available_timezones

import polars as pl

from fusion.component import UsageError, unknown

Midnight = Literal["time", "date"]
Unit = Literal["seconds", "minutes", "hours", "days"]
MICROSECONDS = pl.Datetime("us")
_ISO = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
_HOURS = ("%H", "%I", "%T", "%R", "%X", "%c", "%s", "%k", "%l")
_MICROSECOND = timedelta(microseconds=1)
_CENTURY = timedelta(days=36_525)  # what is longer is no length of time in a record
_OFFSET = r"(?i)^(.*\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)\s*(Z|UTC|[+-]\d{2}:?\d{2}|[+-]\d{2})$"


@dataclass(frozen=True)
class Clock:
    """How times are written.

    What bears a date only is certain when the day is over, so it becomes that day's last second; or its first moment,
    where `early`. With a `zone` all become UTC; without one, a time that has an offset of its own cannot be compared
    with the others and is an error.

    Args:
        format: as strftime has it; None is ISO 8601 with a blank or T, with or without seconds and offset.
        zone: an IANA name such as Europe/Berlin.
        midnight: whether midnight sharp is a time, or what a date became that lost its hour on the way.
        since: the moment from which lengths of time count, where that is what is written; no zone changes it.
        unit: of lengths that are numbers.
    """

    format: str | None = None
    zone: str | None = None
    midnight: Midnight = "time"
    early: bool = False
    since: datetime | None = None
    unit: Unit = "hours"

    def read(self, column: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Return the moments, null where there is none, and where a time has an offset that nothing says how to take.

        Shape: (N,) text, dates or times -> (N,) microseconds, (N,) bool.
        """
        if self.since is not None:
            return (_length(column, self.unit) + self.since).cast(MICROSECONDS), _no(column)
        local, dates, instants = _written(column, self.format)
        has_offset = instants.is_not_null()
        local = local.fill_null(_local(instants, self.zone or "UTC"))
        if self.midnight == "date":
            dates = dates | (local == local.dt.truncate("1d")).fill_null(value=False)
        found = local if self.early else local.zip_with(~dates, _end_of_day(local))
        if self.zone is not None:
            aware = found.dt.replace_time_zone(self.zone, ambiguous="latest", non_existent="null")
            found = aware.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        found = found.zip_with(~has_offset | dates, instants)  # an hour that comes twice is told by its offset
        return found, has_offset if self.zone is None else _no(column)


def moment(text: str) -> datetime:
    """Return the moment a text says; a date is its first moment.

    Raises:
        UsageError: it says none.
    """
    found, _ = Clock(early=True, zone="UTC").read(pl.Series([text]))
    if found.null_count():
        raise UsageError(f"'{text}' is no moment; write it like 2000-01-31 or 2000-01-31 14:05")
    return datetime.fromisoformat(str(found[0]))


def check_zone(name: str) -> str:
    """Return the name of a time zone that is known.

    Raises:
        UsageError: it is not; the message has the nearest.
    """
    if name not in _zones():
        raise unknown("time zone", name, _zones())
    return name


def check_format(text: str) -> str:
    """Return a format that can be read and has a day.

    Raises:
        UsageError: it cannot.
    """
    example = pl.Series(["2024-03-05 14:07:09"]).str.to_datetime("%Y-%m-%d %H:%M:%S", time_zone="UTC")
    try:
        written = example.dt.strftime(text)
        written.str.to_datetime(text, strict=False, time_zone="UTC" if "z" in text else None)
    except (pl.exceptions.PolarsError, ValueError):
        raise UsageError(f"'{text}' is no format of a time; for example %d.%m.%Y %H:%M") from None
    if "%" not in text:
        raise UsageError(f"'{text}' is no format of a time; for example %d.%m.%Y %H:%M")
    return text


def _length(column: pl.Series, unit: Unit) -> pl.Series:
    """Return lengths of time, null where there is none; a number is one in `unit`."""
    if isinstance(column.dtype, pl.Duration):
        return column.cast(pl.Duration("us"))
    if not (column.dtype.is_numeric() or column.dtype == pl.String):
        return pl.Series([None], dtype=pl.Duration("us")).new_from_index(0, len(column))
    micros = column.cast(pl.Float64, strict=False) * (timedelta(**{unit: 1}) / _MICROSECOND)
    micros = micros.set(~(micros.abs() < _CENTURY / _MICROSECOND), None)
    return micros.round().cast(pl.Int64).cast(pl.Duration("us"))


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _written(column: pl.Series, form: str | None) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return local times, which of them are dates, and moments in UTC where an offset or zone tells them."""
    nothing = pl.Series([None], dtype=MICROSECONDS).new_from_index(0, len(column))
    if column.dtype == pl.Date:
        return column.cast(MICROSECONDS), column.is_not_null(), nothing
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            return column.cast(MICROSECONDS), _no(column), nothing
        return nothing, _no(column), column.dt.convert_time_zone("UTC").dt.replace_time_zone(None).cast(MICROSECONDS)
    if column.dtype != pl.String:
        return nothing, _no(column), nothing
    text = column.str.strip_chars()
    if form is None:
        return _iso(text)
    if "%z" in form or "%#z" in form:
        aware = text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC")
        return nothing, _no(column), aware.dt.replace_time_zone(None)
    if any(each in form for each in _HOURS):
        return text.str.to_datetime(form, strict=False, time_unit="us"), _no(column), nothing
    dates = text.str.to_date(form, strict=False).cast(MICROSECONDS)
    return dates, dates.is_not_null(), nothing


def _iso(text: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    offset, plain = text.str.extract(_OFFSET, 2), text.str.extract(_OFFSET, 1)
    times, has_offset = _first_fitting(plain.fill_null(text)), offset.is_not_null()
    instants = times.zip_with(has_offset, times.clear(len(times)))
    if has_offset.any():
        instants = (instants.cast(pl.Int64) - _microseconds(offset)).cast(MICROSECONDS)
    dates = text.str.to_date("%Y-%m-%d", strict=False).cast(MICROSECONDS)
    local = times.zip_with(~has_offset, times.clear(len(times))).fill_null(dates)
    return local, dates.is_not_null(), instants


def _first_fitting(text: pl.Series) -> pl.Series:
    found = pl.Series([None], dtype=MICROSECONDS).new_from_index(0, len(text))
    for each in _ISO:
        if found.null_count() == text.null_count():
            break
        found = found.fill_null(text.str.to_datetime(each, strict=False, time_unit="us"))
    return found


def _microseconds(offset: pl.Series) -> pl.Series:
    digits = offset.str.replace(":", "")
    sign = digits.str.starts_with("-").cast(pl.Int64) * -2 + 1
    hours, minutes = (digits.str.slice(start, 2).cast(pl.Int64, strict=False).fill_null(0) for start in (1, 3))
    return sign * (hours * 60 + minutes) * 60_000_000


def _local(instants: pl.Series, zone: str) -> pl.Series:
    return instants.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.replace_time_zone(None)


def _end_of_day(times: pl.Series) -> pl.Series:
    return times.dt.truncate("1d") + timedelta(hours=24, seconds=-1)


def _no(column: pl.Series) -> pl.Series:
    return pl.repeat(False, len(column), eager=True)
