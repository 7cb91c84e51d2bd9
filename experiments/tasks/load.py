"""Tasks from YAML: those that come with the package, by name, and a person's own file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from experiments.strict import checked, parse_yaml, read_text
from experiments.tasks.definition import LABEL, Predicate, TaskDefinition
from fusion.component import UsageError, unknown

_PREDICATES = "predicates"


def task_names() -> list[str]:
    """Return the names of the tasks that come with the package, in the order of their files."""
    return list(_shipped())


def load_task(source: str | Path) -> TaskDefinition:
    """Read a task by its name, or from a YAML file; predicates that it does not define are the package's.

    Raises:
        UsageError: there is no such task or file, or it is wrong; the message says where.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"no such file: {path}")
        return _task(parse_yaml(read_text(path), str(path)), str(path))
    shipped = _shipped()
    if str(source) not in shipped:
        raise unknown("task", str(source), list(shipped))
    return _task(shipped[str(source)], str(source))


def shared_predicates() -> dict[str, Predicate]:
    """Return the predicates that every task may use."""
    return TypeAdapter(dict[str, Predicate]).validate_python(_read(_PREDICATES))


def task_schema() -> dict[str, Any]:
    """Return the JSON schema of a task's file."""
    return TaskDefinition.model_json_schema(by_alias=True)


def _task(data: Any, where: str) -> TaskDefinition:
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping at the top; got {type(data).__name__}")
    if "like" in data:
        data = _alike(data, where)
    task = checked(TaskDefinition, data, where)
    known = shared_predicates() | task.predicates
    for name in sorted(task.used()):
        if name not in known:
            raise unknown("predicate", name, list(known), where)
    if LABEL in task.predicates:
        raise UsageError(f"{where}: predicates.{LABEL}: the name is taken; it means what defines the label")
    mine = {name: known[name] for name in sorted(task.used())}
    return task.model_copy(update={"predicates": mine})


def _alike(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Take the keys of another task that this one does not have."""
    shipped = _shipped()
    if data["like"] not in shipped or "like" in shipped[data["like"]]:
        whole = [name for name, each in shipped.items() if "like" not in each]
        raise unknown("task", str(data["like"]), whole, f"{where}: like")
    return {**shipped[data["like"]], **{key: value for key, value in data.items() if key != "like"}}


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    folder = resources.files("experiments") / "tasks" / "definitions"
    names = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
    return {each["name"]: each for name in names if name != _PREDICATES for each in [_read(name)]}


def _read(name: str) -> Any:
    path = resources.files("experiments") / "tasks" / "definitions" / f"{name}.yaml"
    return parse_yaml(path.read_text(encoding="utf-8"), name)
