"""Evaluate a task on a data folder: who is predicted and when, with what truth, and who was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from experiments.data.folder import Dataset
from experiments.data.reader import read_events
from experiments.progress import progress_bar
from experiments.tasks.definition import LABEL, Hourly, LabelRule, Step, TaskDefinition
from experiments.tasks.frame import Events, at_moment, first_within, gather, index_rows, with_predictions
from experiments.tasks.groups import Groups, load_groups
from experiments.tasks.moments import duration, interval, moment, order
from experiments.tasks.predicates import pattern
from fusion.component import UsageError

_YEAR_DAYS = 365.25
_KEYS = ("subject_id", "prediction_time")


@dataclass
class Flow:
    """The steps from all index events to the rows predicted, counted over shards."""

    steps: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, step: str, rows: pl.DataFrame, before: int | None = None) -> None:
        """Count the rows and patients after a step."""
        mine = self.steps.setdefault(step, Counter())
        mine["n"] += rows.height
        mine["patients"] += rows["subject_id"].n_unique()
        if before is not None:
            mine["left_out"] += before - rows.height

    def plain(self) -> list[dict[str, Any]]:
        """Return the steps as plain data."""
        return [{"step": step, **dict(counts)} for step, counts in self.steps.items()]


@dataclass(frozen=True)
class Result:
    """What came of a task on a folder.

    Shape:
        rows: subject_id, prediction_time, and the truth: boolean_value, or categorical_value, or a boolean column a
        label.
    """

    task: TaskDefinition
    rows: pl.DataFrame
    flow: list[dict[str, Any]]
    labels: dict[str, str] = field(default_factory=dict)
    rare: list[str] = field(default_factory=list)
    assumed: int = 0


def evaluate(task: TaskDefinition, dataset: Dataset, *, progress: bool = False) -> Result:
    """Compute a task's rows and labels shard by shard; memory is bounded by the largest shard.

    Raises:
        UsageError: the task is not defined on this source, nothing in the folder fits a predicate it needs, or nobody
            is left.
    """
    _refuse(task, dataset)
    groups = _groups(task.label)
    said = dataset.knowledge().descriptions if groups else {}
    flow, parts, seen = Flow(), [], Counter[str]()
    assumed = 0
    with progress_bar(f"looking for {task.name}", len(dataset.shards), enabled=progress) as advance:
        for shard in dataset.shards:
            table = read_events(shard, None, notes=False)
            codes = {code: said.get(code, "") for code in table["code"].unique()}
            events = gather(table, task, groups.members(codes) if groups else {})
            del table
            for name, found in events.codes.items():
                seen[name] += len(found)
            rows, mine = _shard(task, events, groups, flow, dataset.unpredictable)
            parts.append(rows)
            assumed += mine
            advance()
    _check_seen(task, dataset, seen)
    rows = pl.concat(parts).sort(_KEYS)
    if rows.is_empty():
        last = next(step for step in flow.plain() if not step["n"])
        raise UsageError(f"{dataset.folder}: {task.name}: nobody is left after the step '{last['step']}'")
    return _result(task, dataset, rows, flow, groups, assumed)


def _refuse(task: TaskDefinition, dataset: Dataset) -> None:
    name = str(dataset.metadata.get("dataset_name") or "")
    for text, why in task.not_for.items():
        if pattern(text).fullmatch(name):
            raise UsageError(f"{dataset.folder}: {task.name} is not defined on {name}: {why}")


def _groups(rule: LabelRule) -> Groups | None:
    if rule.each is None:
        return None
    groups = load_groups(rule.each)
    return groups if rule.of is None else groups.of(rule.of)


def _check_seen(task: TaskDefinition, dataset: Dataset, seen: Mapping[str, int]) -> None:
    """Refuse to call everybody negative because the table that would tell is not there."""
    assert task.index is not None
    needed = [*task.index.events, *([LABEL] if task.label.any or task.label.each else [])]
    for name in needed:
        if not seen[name]:
            meant = task.label.any if name == LABEL else name
            asked = task.predicates[meant].codes if meant else []
            codes = ", ".join((asked or [f"the groups of {task.label.each}"])[:3])
            what = "what defines the label" if name == LABEL else name
            why = f"no event is {what} ({codes}); the table that tells it may not be in the source"
            raise UsageError(f"{dataset.folder}: {task.name}: {why}")


def _shard(
    task: TaskDefinition, events: Events, groups: Groups | None, flow: Flow, unpredictable: pl.DataFrame | None
) -> tuple[pl.DataFrame, int]:
    """Take one shard's rows through all steps; return them with the truth, and how many rest on an assumption."""
    rows = index_rows(task, events)
    flow.add(f"every {_named(task)} in the data", rows)
    rows = _predicted(task, rows, flow)
    for step in task.steps:
        before, rows = rows.height, rows.filter(_passes(step, rows, events))
        flow.add(step.keep, rows, before)
    if unpredictable is not None:
        before, rows = rows.height, _outside(rows, unpredictable)
        flow.add("the source records what came before, and how the hospital stay ended", rows, before)
    before = rows.height
    rows = rows.sort("subject_id", "predict", "start").unique(
        ["subject_id", "predict"], keep="first", maintain_order=True
    )
    if task.counts == "first":
        rows = rows.unique("subject_id", keep="first", maintain_order=True)
    one = "the first prediction of each patient" if task.counts == "first" else "one prediction a patient and moment"
    flow.add(one, rows, before)
    return _labelled(task, rows, events, groups, flow)


def _outside(rows: pl.DataFrame, times: pl.DataFrame) -> pl.DataFrame:
    """Leave out rows that are predicted at times of which the source cannot tell enough."""
    numbered = rows.with_row_index("row")
    bounds = times.select("subject_id", low="start", high="end")
    inside = numbered.join(bounds, on="subject_id").filter(pl.col("predict").is_between("low", "high"))
    return numbered.filter(~pl.col("row").is_in(inside["row"].unique().to_list())).drop("row")


def _predicted(task: TaskDefinition, rows: pl.DataFrame, flow: Flow) -> pl.DataFrame:
    """Give each row its prediction, or its predictions; a stay that is too short for the first has none."""
    found = with_predictions(task, rows)
    if isinstance(task.predict, Hourly):
        stays = found.unique(["subject_id", "start", "end"])
        flow.add(f"its end is recorded, and it reaches {task.predict.first}", stays, rows.height)
        flow.add(f"predictions: every {task.predict.every} from {task.predict.first} until {task.predict.until}", found)
    return found


def _named(task: TaskDefinition) -> str:
    assert task.index is not None
    return (task.index.at or f"stay from {task.index.start} to {task.index.end}").replace("_", " ")


def _passes(step: Step, rows: pl.DataFrame, events: Events) -> pl.Series:
    """Tell which rows go on."""
    if step.holds:
        wanted = order(step.holds)
        first, second = at_moment(rows, events, wanted.first), at_moment(rows, events, wanted.second)
        return (first < second if wanted.strict else first <= second).fill_null(value=False)
    if step.known:
        return at_moment(rows, events, moment(step.known)).is_not_null()
    if step.age_from is not None:
        born = rows.join(events.births, on="subject_id", how="left", maintain_order="left")["born"]
        years = (rows["start"] - born).dt.total_days() / _YEAR_DAYS
        return (years >= step.age_from).fill_null(value=True)
    assert step.within is not None
    found = first_within(rows, events, step.any or step.none or "", interval(step.within))["row"].unique()
    has = pl.int_range(rows.height, eager=True).is_in(found.to_list())
    return has if step.any else ~has


def _labelled(
    task: TaskDefinition, rows: pl.DataFrame, events: Events, groups: Groups | None, flow: Flow
) -> tuple[pl.DataFrame, int]:
    rule = task.label
    keys = rows.select("subject_id", prediction_time="predict")
    if rule.longer_than or rule.classes:
        length = rows["end"] - rows["start"]
        if rule.longer_than:
            value = (length > duration(rule.longer_than)).alias("boolean_value")
        else:
            value = _classes(length, rule.classes or []).alias("categorical_value")
        table = keys.with_columns(value).filter(value.is_not_null())
        flow.add("the end of the stay is recorded", table, keys.height)
        return table, 0
    assert rule.within is not None
    found = first_within(rows, events, LABEL, interval(rule.within))
    wanted = list(groups.names) if groups else ["boolean_value"]
    number = {name: place for place, name in enumerate(wanted)}
    values = np.zeros((rows.height, len(wanted)), bool)
    values[found["row"].to_numpy(), [number[name] for name in found["group"]] if groups else 0] = True
    table = keys.hstack(pl.DataFrame({name: values[:, place] for name, place in number.items()}))
    known = _observed(rule, rows, events)
    if rule.unseen != "left out":
        known |= pl.Series(values.any(axis=1))
    if rule.unseen == "absent":
        flow.add("where nothing was seen, it is taken to be absent", table, table.height)
        return table, int((~known).sum())
    kept = table.filter(known)
    flow.add("the interval of the label was seen to its end", kept, table.height)
    return kept, 0


def _observed(rule: LabelRule, rows: pl.DataFrame, events: Events) -> pl.Series:
    """Tell of which rows the source saw the interval of the label to its end."""
    assert rule.within is not None
    end = at_moment(rows, events, interval(rule.within).high)
    if rule.observed is None:
        return end.is_not_null()
    return (end <= at_moment(rows, events, moment(rule.observed))).fill_null(value=False)


def _classes(length: pl.Series, edges: list[str]) -> pl.Series:
    """Name the classes so that they sort as their lengths do; a length on an edge is in the class that begins there."""
    days = [duration(edge).total_seconds() / 86_400 for edge in edges]
    width = max(len(f"{day:g}") for day in days)
    texts = [f"{day:g}".zfill(width) for day in days]
    names = [f"{'0' * width} to {texts[0]} days"]
    names += [f"{low} to {high} days" for low, high in pairwise(texts)]
    names.append(f"{texts[-1]} days or more")
    whole = length.dt.total_microseconds()
    limits = [int(day * 86_400 * 1_000_000) for day in days]
    number = pl.sum_horizontal((pl.lit(whole) >= limit).cast(pl.Int64) for limit in limits)
    chosen = pl.select(number.replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)).to_series()
    return pl.select(pl.when(whole.is_not_null()).then(chosen)).to_series()


def _result(
    task: TaskDefinition, dataset: Dataset, rows: pl.DataFrame, flow: Flow, groups: Groups | None, assumed: int
) -> Result:
    last: dict[str, Any] = {"step": "predicted", "n": rows.height, "patients": rows["subject_id"].n_unique()}
    if groups is None:
        if "boolean_value" in rows.columns:
            last["positive"] = int(rows["boolean_value"].sum())
        return Result(task, rows, [*flow.plain(), last], {}, [], assumed)
    # which labels are common enough is a fact learned from data, so training patients alone decide
    train = rows
    if dataset.splits is not None:
        mine = dataset.splits.filter(pl.col("split") == "train")["subject_id"]
        train = rows.filter(pl.col("subject_id").is_in(mine.to_list()))
    rare = [name for name in groups.names if int(train[name].sum()) < task.label.least]
    kept = {name: text for name, text in groups.names.items() if name not in rare}
    if not kept:
        why = f"no label is had by {task.label.least} rows of training patients"
        raise UsageError(f"{dataset.folder}: {task.name}: {why}; lower label.least in a file of your own")
    return Result(task, rows.select(*_KEYS, *kept), [*flow.plain(), last], kept, rare, assumed)
