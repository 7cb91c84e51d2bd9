"""A clinical task as checked data: predicates, index, prediction, exclusions, label, leak rules, source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from experiments.strict import Strict
from experiments.tasks.moments import (
    DurationText,
    Interval,
    IntervalText,
    Moment,
    MomentText,
    OrderText,
    interval,
    moment,
    order,
)
from fusion.task import Kind

LABEL = "label"  # the name under which steps speak of whatever defines the label
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]


class Value(Strict):
    """What an event's number must be; an event without a number does not fit."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None


class Predicate(Strict):
    """Which events are meant: patterns of codes in which `*` is any text; capitals do not matter."""

    codes: Annotated[list[str], Field(min_length=1)]
    but_not: tuple[str, ...] = ()
    value: Value | None = None


class Index(Strict):
    """What makes a row: an event (`at`), or a stay between two events (`from`, `to`)."""

    at: Name | None = None
    start: Name | None = Field(default=None, alias="from")
    end: Name | None = Field(default=None, alias="to")

    @model_validator(mode="after")
    def _one_kind(self) -> Index:
        if (self.at is None) == (self.start is None) or (self.start is None) != (self.end is None):
            raise ValueError("an index is an event ('at') or a stay ('from' and 'to')")
        return self

    @property
    def events(self) -> list[str]:
        """The names of its predicates."""
        return [name for name in (self.at, self.start, self.end) if name is not None]


class Hourly(Strict):
    """Predictions again and again during a stay."""

    every: DurationText
    first: MomentText = "start"
    until: MomentText = "end"


class Step(Strict):
    """Who goes on: `keep` says it in words, and one of the tests decides; what is not known does not pass."""

    keep: str
    holds: OrderText | None = None
    known: MomentText | None = None
    any: Name | None = None
    none: Name | None = None
    within: IntervalText | None = Field(default=None, alias="in")
    age_from: float | None = None

    @model_validator(mode="after")
    def _one_test(self) -> Step:
        tests = [each for each in (self.holds, self.known, self.any, self.none, self.age_from) if each is not None]
        if len(tests) != 1 or (self.within is not None) != (self.any is not None or self.none is not None):
            raise ValueError("a step has one of holds, known, age_from, any or none; 'in' goes with any and none")
        return self


class LabelRule(Strict):
    """What the truth is: an event in an interval, the length of the stay, each group in an interval, or a given file.

    `observed` is a moment until which the source sees the patient. Where the interval ends later the row is left out,
    whatever was seen in it: to keep the positives alone would raise their share. Where the event settles the matter, as
    death does, say `unseen: left out if negative`; with `unseen: absent` such rows stay, and are counted.
    """

    any: Name | None = None
    longer_than: DurationText | None = None
    classes: list[DurationText] | None = None
    each: str | None = None
    of: list[str] | None = None
    least: int = 10
    within: IntervalText | None = Field(default=None, alias="in")
    observed: MomentText | None = None
    unseen: Literal["left out", "left out if negative", "absent"] = "left out"
    given: str | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> LabelRule:
        rules = [each for each in (self.any, self.longer_than, self.classes, self.each, self.given) if each is not None]
        if len(rules) != 1 or (self.within is not None) != (self.any is not None or self.each is not None):
            raise ValueError("a label has one of any, longer_than, classes, each, given; 'in' goes with any and each")
        return self

    @property
    def kind(self) -> Kind:
        """The kind of target it is."""
        return "multilabel" if self.each else "multiclass" if self.classes else "binary"


class SourceOf(Strict):
    """Where the task is defined, and what is different here."""

    authors: str
    title: str
    year: int
    differs: str = ""


class TaskDefinition(Strict):
    """One clinical task."""

    name: Name
    title: str
    source: SourceOf
    predicates: dict[Name, Predicate] = Field(default={})
    index: Index | None = None
    predict: MomentText | Hourly | None = None
    require: tuple[Step, ...] = ()
    leaks: tuple[Step, ...] = ()
    counts: Literal["every", "first"] = "every"
    label: LabelRule
    not_for: dict[str, str] = Field(default={})
    notes: str = ""

    @model_validator(mode="after")
    def _whole(self) -> TaskDefinition:
        if self.label.given is None and (self.index is None or self.predict is None):
            raise ValueError("a task needs 'index' and 'predict', unless its label is given")
        if (self.label.longer_than or self.label.classes) and self.index is not None and self.index.at is not None:
            raise ValueError("a length is that of a stay: give the index 'from' and 'to'")
        for each in self.prediction_moments():
            if each.event is not None or each.anchor in ("predict", "ever", "forever"):
                raise ValueError("the prediction is at 'start' or 'end', with + or - a duration")
        return self

    @property
    def steps(self) -> list[Step]:
        """The exclusions, then the leak rules."""
        return [*self.require, *self.leaks]

    def prediction_moments(self) -> list[Moment]:
        """Return the moments on which the time of prediction hangs."""
        if self.predict is None:
            return []
        texts = [self.predict] if isinstance(self.predict, str) else [self.predict.first, self.predict.until]
        return [moment(text) for text in texts]

    def moments(self) -> Iterator[Moment]:
        """Yield every moment that steps and the label speak of."""
        for step in self.steps:
            if step.holds:
                yield from order(step.holds)[:2]
            if step.known:
                yield moment(step.known)
        for each in self.intervals():
            yield from each[:2]
        if self.label.observed:
            yield moment(self.label.observed)

    def intervals(self) -> Iterator[Interval]:
        """Yield every interval that steps and the label speak of."""
        for text in (*(step.within for step in self.steps), self.label.within):
            if text:
                yield interval(text)

    def used(self) -> set[str]:
        """Return the names of all predicates that are spoken of."""
        names = {each.event for each in self.moments()} | {each.any or each.none for each in self.steps}
        names |= {self.label.any, *(self.index.events if self.index else [])}
        return {name for name in names if name} - {LABEL}
