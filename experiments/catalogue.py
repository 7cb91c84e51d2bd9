"""The table of components a user can choose from, read off their classes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from encoders import ENCODERS
from fusion import FUSIONS
from fusion.component import Choice, hyperparameters, unknown


def render_catalogue(name: str | None) -> Any:
    """Return a rich table of all components, or what one of them is and takes.

    Raises:
        UsageError: no component has that name.
    """
    found = [(kind, each, component) for kind, each, component in _all() if name in (None, each, f"{kind}.{each}")]
    if not found:
        raise unknown("component", str(name), [each for _, each, _ in _all()])
    if name is None:
        return _table(found)
    from rich.console import Group

    return Group(*(part for kind, each, component in found for part in _details(kind, each, component)))


def _all() -> Iterator[tuple[str, str, type]]:
    for kind, catalogue in {**ENCODERS, "fusion": FUSIONS}.items():
        for name, component in catalogue.items():
            yield kind, name, component


def _table(found: list[tuple[str, str, type]]) -> Any:
    from rich.table import Table

    table = Table("kind", "name", "what it computes", "reference", "searched hyperparameters", show_lines=False)
    for kind, name, component in found:
        searched = ", ".join(each.name for each in hyperparameters(component).values() if each.range)
        table.add_row(kind, name, _summary(component), _reference(component), searched)
    return table


def _details(kind: str, name: str, component: type) -> Iterator[Any]:
    from rich.table import Table

    yield f"[bold]{kind}.{name}[/bold]\n{inspect.cleandoc(component.__doc__ or '')}\n"
    table = Table("hyperparameter", "type", "default", "searched in")
    for each in hyperparameters(component).values():
        kind_name = getattr(each.type, "__name__", str(each.type))
        table.add_row(each.name, kind_name, repr(each.default), _range(each.range))
    yield table


def _range(limits: Any) -> str:
    if limits is None:
        return "-"
    if isinstance(limits, Choice):
        return ", ".join(str(each) for each in limits.options)
    return f"{limits.low} to {limits.high}{' (log)' if limits.log else ''}"


def _summary(component: type) -> str:
    return inspect.cleandoc(component.__doc__ or "").split("\n")[0]


def _reference(component: type) -> str:
    text = inspect.cleandoc(component.__doc__ or "")
    _, found, rest = text.partition("Reference:\n")
    return " ".join(line.strip() for line in rest.split("\n\n")[0].splitlines()) if found else ""
