"""The base of all settings: no unknown key passes, nothing changes afterwards, and what is wrong is said in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fusion.component import UsageError, masked, unknown

_MOST_VALUES = 100_000


class Strict(BaseModel):
    """Settings that refuse what they do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


Settings = TypeVar("Settings", bound=Strict)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text; here it is a number, as people mean it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$|^[-+]?\.\d[\d_]*[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_text(path: Path) -> str:
    """Read a YAML file's text.

    Raises:
        UsageError: it is no UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except ValueError:
        raise UsageError(f"{path}: not readable as YAML: it is no UTF-8 text") from None


def checked(kind: type[Settings], data: Mapping[str, Any], where: str) -> Settings:
    """Check plain data as settings.

    Raises:
        UsageError: a key is unknown or missing, or a value is of another type; the message has its path.
    """
    try:
        return kind.model_validate(dict(data))
    except ValidationError as error:
        raise UsageError(_one_line(error, kind, where)) from None


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML that is as large as it looks.

    Raises:
        UsageError: it is no YAML, holds itself, or repeats a part so often that it would fill the memory.
    """
    try:
        data = yaml.load(text, _Loader)
        size = _size(data, {})
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: not readable as YAML: {' '.join(str(error).split())[:300]}") from None
    except ValueError as error:  # of a date or number that is none
        raise UsageError(f"{where}: not readable as YAML: {error}") from None
    except RecursionError:
        raise UsageError(f"{where}: not readable as YAML: nested too deeply, or a part holds itself") from None
    if size > _MOST_VALUES:
        raise UsageError(f"{where}: holds {size:,} values where aliases are written out, at most {_MOST_VALUES:,} may")
    return data


def _size(data: Any, known: dict[int, int]) -> int:
    """Count the values of a tree; what is aliased counts each time."""
    if not isinstance(data, dict | list):
        return 1
    if id(data) not in known:
        parts = [*data.keys(), *data.values()] if isinstance(data, dict) else data
        known[id(data)] = 1 + sum(_size(each, known) for each in parts)
    return known[id(data)]


def _one_line(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    found = error.errors()
    first = next(
        (each for each in found if each["type"] == "extra_forbidden"), found[0]
    )  # a misspelt key is missing, too
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(unknown("key", path, _siblings(kind, first["loc"]), where))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{where}: missing key '{path}'"
    return f"{where}: {path + ': ' if path else ''}{message}; got {_short(first['input'])}"


def _short(value: Any) -> str:
    text = masked(repr(value))  # before it is cut
    return text if len(text) <= 80 else text[:77] + "..."


def _siblings(kind: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the full dotted paths of the keys that are allowed where an unknown one was found."""
    model: Any = kind
    for part in loc[:-1]:
        field = model.model_fields.get(str(part))
        if field is None:
            continue  # a place in a list, or a name that a mapping is free to have: their kind was found with them
        model = next(_models(field.annotation), None)
        if model is None:
            return []
    prefix = "".join(f"{part}." for part in loc[:-1])
    return [prefix + name for name in model.model_fields]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the settings that an annotation allows, also within unions and lists."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
