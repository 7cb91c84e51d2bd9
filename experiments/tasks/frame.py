"""The rows of a task in one shard, and the events they are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from experiments.data.reader import BIRTH
from experiments.tasks.definition import LABEL, Hourly, TaskDefinition
from experiments.tasks.moments import Interval, Moment, duration
from experiments.tasks.predicates import fits, meant

_EVER, _FOREVER = pl.datetime(1, 1, 1, time_unit="us"), pl.datetime(9999, 12, 31, time_unit="us")
EVENT = {"subject_id": pl.Int64, "time": pl.Datetime("us")}


@dataclass(frozen=True)
class Events:
    """The events of a shard that a task speaks of, by predicate; and births.

    Shape:
        each table: subject_id, time, sorted; that of the label may have group, too.
    """

    tables: Mapping[str, pl.DataFrame]
    births: pl.DataFrame
    codes: Mapping[str, frozenset[str]]


def gather(events: pl.DataFrame, task: TaskDefinition, members: Mapping[str, list[str]]) -> Events:
    """Sort a shard's dated events by the predicates of a task.

    Args:
        events: subject_id, time, code, numeric_value.
        members: the groups of each code, for a label that is made of groups.
    """
    codes = events["code"].unique().to_list()
    timed = events.filter(pl.col("time").is_not_null())
    if "numeric_value" not in timed.columns:
        timed = timed.with_columns(numeric_value=pl.lit(None, pl.Float32))
    tables, found = {}, {}
    for name, predicate in task.predicates.items():
        found[name] = frozenset(meant(predicate, codes))
        mine = timed.filter(pl.col("code").is_in(list(found[name])) & fits(predicate.value))
        tables[name] = mine.select("subject_id", "time").unique().sort("subject_id", "time")
    if task.label.each:
        pairs = [(code, group) for code in codes for group in members.get(code, ())]
        table = pl.DataFrame(pairs, schema={"code": pl.String, "group": pl.String}, orient="row")
        tables[LABEL] = timed.join(table, on="code").select("subject_id", "time", "group").unique()
        found[LABEL] = frozenset(code for code, _ in pairs)
    elif task.label.any:
        tables[LABEL], found[LABEL] = tables[task.label.any], found[task.label.any]
    births = timed.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(born=pl.col("time").min())
    return Events(tables, births, found)


def index_rows(task: TaskDefinition, events: Events) -> pl.DataFrame:
    """Return the rows of a task: subject_id, start, end. A stay whose end is not recorded has none."""
    assert task.index is not None
    if task.index.at is not None:
        return events.tables[task.index.at].select("subject_id", start="time", end="time")
    starts = events.tables[task.index.start or ""].rename({"time": "start"})
    ends = events.tables[task.index.end or ""].rename({"time": "end"})
    joined = _asof(starts, ends, "start", "end", later=True)
    following = pl.col("start").shift(-1).over("subject_id", order_by="start")
    own = (pl.col("end") <= following) | following.is_null()
    return joined.with_columns(end=pl.when(own).then("end"))


def with_predictions(task: TaskDefinition, rows: pl.DataFrame) -> pl.DataFrame:
    """Add `predict`; repeated predictions make a row each, up to and with their last moment."""
    if not isinstance(task.predict, Hourly):
        (at,) = task.prediction_moments()
        return rows.with_columns(predict=_plain(at))
    first, until = (_plain(each) for each in task.prediction_moments())
    every = duration(task.predict.every)
    ranged = pl.datetime_ranges(pl.col("first"), pl.col("until"), every)
    bounds = rows.with_columns(first=first, until=until)
    known = bounds.filter(pl.col("until") >= pl.col("first"))
    return known.with_columns(predict=ranged).explode("predict").drop("first", "until")


def _plain(at: Moment) -> pl.Expr:
    return pl.col(at.anchor) + at.shift


def at_moment(rows: pl.DataFrame, events: Events, at: Moment) -> pl.Series:
    """Return a moment of every row; null where it is not recorded. Rows must have subject_id, start, end, predict."""
    if at.anchor in ("ever", "forever"):
        return rows.with_columns(at=_EVER if at.anchor == "ever" else _FOREVER)["at"]
    if at.event is None:
        return rows.select(at=_plain(at))["at"]
    table = events.tables[at.event].select("subject_id", at="time").unique().sort("subject_id", "at")
    found = _asof(rows.with_row_index("row"), table, "predict", "at", later=at.anchor == "next")
    return found.sort("row")["at"] + at.shift


def first_within(rows: pl.DataFrame, events: Events, name: str, interval: Interval) -> pl.DataFrame:
    """Return the rows with an event in an interval: their number `row`, and `group` where the events have one."""
    bounds = pl.DataFrame(
        {
            "row": pl.int_range(rows.height, eager=True),
            "subject_id": rows["subject_id"],
            "low": at_moment(rows, events, interval.low),
            "high": at_moment(rows, events, interval.high),
        }
    )
    time = pl.col("time")
    after = time >= pl.col("low") if interval.with_low else time > pl.col("low")
    before = time <= pl.col("high") if interval.with_high else time < pl.col("high")
    table = events.tables[name]
    keys = ["row", "group"] if "group" in table.columns else ["row"]
    return bounds.join(table, on="subject_id").filter(after & before).select(keys).unique()


def _asof(rows: pl.DataFrame, table: pl.DataFrame, left: str, right: str, *, later: bool) -> pl.DataFrame:
    """Join to each row the first event after a time, or the last one at or before it."""
    return rows.sort("subject_id", left).join_asof(
        table.sort("subject_id", right),
        left_on=left,
        right_on=right,
        by="subject_id",
        strategy="forward" if later else "backward",
        allow_exact_matches=not later,
        check_sortedness=False,
        coalesce=False,
    )
