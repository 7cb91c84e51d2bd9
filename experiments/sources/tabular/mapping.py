"""How a hospital's own tables are described: which columns say who, when, what and how much."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from experiments.sources.moments import Clock, Unit, check_format, check_zone, moment
from experiments.strict import Strict, checked, parse_yaml, read_text
from fusion.component import UsageError

_PLACE = re.compile(r"\{([^{}]*)\}")
NAME = "{}"  # in a code, the name of the column the value is from
ValueKind = Literal["boolean", "integer", "float", "categorical"]


def _pattern(text: str) -> str:
    if set("{}") & set(_PLACE.sub("", text)):
        raise ValueError("a column's name goes between braces, as in 'LAB//{test}'")
    return text


def _usable(check: Any) -> AfterValidator:
    """Make a check of ours one of pydantic's."""

    def validate(value: str) -> str:
        try:
            return str(check(value))
        except UsageError as error:
            raise ValueError(str(error)) from None

    return AfterValidator(validate)


def _of_columns(text: str) -> str:
    if NAME in text:
        raise ValueError("a column's name goes between braces, as in '{category}'")
    return _pattern(text)


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_of_columns)]
CodePattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Zone = Annotated[str, _usable(check_zone)]
Format = Annotated[str, _usable(check_format)]
Moment = Annotated[
    str,
    BeforeValidator(lambda given: str(given) if isinstance(given, date) else given),  # YAML reads dates itself
    _usable(lambda text: text if moment(text) else ""),
]


class When(Strict):
    """A column of times: its format as strftime has it (ISO 8601 without), its zone where it differs from the others'.

    What bears a date only counts from the end of that day; so does midnight sharp, where it stands for a date. With
    `since`, the column has lengths of time (numbers, in `unit`) from that moment, which is made up where the calendar
    is not known but must be the same in all tables. `at` is a moment for all rows, in place of a column.
    """

    column: str | None = None
    at: Moment | None = None
    format: Format | None = None
    since: Moment | None = None
    unit: Unit = "hours"
    zone: Zone | None = None
    midnight: Literal["time", "date"] = "time"

    def clock(self, zone: str | None, *, early: bool = False) -> Clock:
        """Return how the column is read; `zone` is that of all tables."""
        since = None if self.since is None else moment(self.since)
        return Clock(self.format, self.zone or zone, self.midnight, early, since, self.unit)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.column or "at"

    @model_validator(mode="after")
    def _is_a_column_or_a_moment(self) -> When:
        if (self.column is None) == (self.at is None):
            raise ValueError("name a column, or at: a moment for all rows")
        if self.since is not None and (self.at or self.format or self.zone):
            raise ValueError("since counts lengths of time, which have no format and no zone, from a column")
        return self


Time = Annotated[When, BeforeValidator(lambda given: {"column": given} if isinstance(given, str) else given)]


class File(Strict):
    """A CSV file (also .gz), a parquet file, or the name of a DataFrame; and the column that says whose a row is."""

    file: Annotated[str, Field(min_length=1)]
    patient: str
    encoding: str = "utf-8"
    separator: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."


class _Known(File):
    """Facts with a time: when they were so, when they were known (the later counts), and what they may not precede."""

    time: Time | None = None
    available: Time | None = None
    not_before: Time | None = None

    def times(self) -> dict[str, When]:
        """Return the columns of times by what they tell."""
        told = {"time": self.time, "available": self.available, "not_before": self.not_before}
        return {name: each for name, each in told.items() if each is not None}

    @model_validator(mode="after")
    def _times_need_a_time(self) -> _Known:
        if self.time is None and (self.available or self.not_before):
            raise ValueError("available and not_before need a time beside them")
        return self


class EventTable(_Known):
    """Coded events, one a row; without a time they are facts about the patient that always hold.

    `code` and `unit` are patterns: names of columns between braces, everything else as it is. A table with a column a
    measurement names them in `values`; each filled cell is an event, and `{}` in `code` is the name of its column.
    """

    code: CodePattern
    value: str | None = None
    values: tuple[str, ...] = ()
    value_may_be_missing: bool = False
    unit: Pattern | None = None
    site: str | None = None

    @model_validator(mode="after")
    def _is_long_or_wide(self) -> EventTable:
        if self.values and (self.value is not None or self.value_may_be_missing):
            raise ValueError("give value, a column, or values, a list of columns whose empty cells are no events")
        if bool(self.values) != (NAME in self.code):
            raise ValueError("values needs {} in code, for the name of a value's column, and {} needs values")
        return self


class NoteTable(_Known):
    """Notes: their text, and a pattern for their kind, as in `radiology` or `{category}`."""

    time: Time
    text: str
    kind: Pattern = "note"


class ImageTable(_Known):
    """Images: the column with their paths, from `folder`; they are copied."""

    time: Time
    path: str
    view: str | None = None
    folder: str = "."


class LabelTable(File):
    """What is predicted: when, and the truth. A prediction time that is a date is that day's first moment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    time: Time
    value: str
    kind: ValueKind = "boolean"


class SplitTable(File):
    """Who is in which split; `names` says which of train, tuning and held_out other names mean."""

    split: str
    names: dict[str, Literal["train", "tuning", "held_out"]] = Field(default_factory=dict)


class Mapping(Strict):
    """A hospital's own tables: what they are called, where they lie, and what is in each.

    `zone` is the time zone of all times that have none of their own; with it, everything becomes UTC. `ids` says
    whether patients are whole numbers or texts; texts are numbered. Without `splits` patients are dealt out by `seed`.
    """

    name: Annotated[str, Field(min_length=1)]
    version: str = "1"
    license: str = "as the source"
    source: Path = Path()
    ids: Literal["integer", "text"] = "integer"
    zone: Zone | None = None
    events: tuple[EventTable, ...] = ()
    notes: tuple[NoteTable, ...] = ()
    images: tuple[ImageTable, ...] = ()
    labels: tuple[LabelTable, ...] = ()
    splits: SplitTable | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _has_something(self) -> Mapping:
        if not (self.events or self.notes or self.images):
            raise ValueError("describe at least one table under events, notes or images")
        names = [each.name for each in self.labels]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two labels are called '{twice}'")
        return self


def load_mapping(path: Path) -> Mapping:
    """Read a mapping; `source` is taken from where the file lies.

    Raises:
        UsageError: the file is missing, is not YAML, or has a wrong key or type; the message has its path.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    data = parse_yaml(read_text(path), str(path))
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected a mapping at the top; got {type(data).__name__}")
    mapping = checked(Mapping, data, str(path))
    return mapping.model_copy(update={"source": path.parent / mapping.source})


def mapping_schema() -> str:
    """Return the JSON schema of mappings, for editors that check and complete YAML."""
    return json.dumps(Mapping.model_json_schema(), indent=1)


def columns_in(pattern: str | None) -> list[str]:
    """Return the columns a pattern names.

    Examples:
        >>> columns_in("LAB//{test}//{material}")
        ['test', 'material']
    """
    return [name for name in _PLACE.findall(pattern or "") if name]


def parts_of(pattern: str) -> list[tuple[str, bool]]:
    """Return the parts of a pattern and whether each is a column, which keeps its braces.

    Examples:
        >>> parts_of("LAB//{test}")
        [('LAB//', False), ('{test}', True)]
    """
    parts = re.split(r"(\{[^{}]*\})", pattern)
    return [(part, part.startswith("{")) for part in parts if part]
