"""The table of what a user can choose from, read off the classes: encoders, fusions, training strategies, controls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from encoders import ENCODERS
from experiments.controls import CONTROLS
from experiments.strategies import STRATEGIES
from fusion import FUSIONS
from fusion.component import Choice, Genome, hyperparameters, unknown

ENCODER_MISSING = "An encoder runs on the patients who have its modality; an absent one is a row whose mask is False."
_PAPER = re.compile(r"(?P<paper>.+?), (?P<year>\d{4})\b(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One thing to choose: its kind (a modality, fusion, training or control), its name and what documents it."""

    kind: str
    name: str
    subject: Callable[..., Any]

    @property
    def names(self) -> set[str]:
        """What it is looked up by: its name, its kind, or both; a strategy also by any word of its setting."""
        words = re.findall(r"\w+", self.name) if self.kind == "training" else []
        return {self.kind, self.name, f"{self.kind}.{self.name}", *words}

    @property
    def text(self) -> str:
        """The whole docstring."""
        return inspect.cleandoc(self.subject.__doc__ or "")

    @property
    def summary(self) -> str:
        """The first line: what it computes."""
        return self.text.split("\n")[0]

    def section(self, title: str) -> str:
        """Return a section of the docstring as one line, empty where there is none."""
        _, found, rest = self.text.partition(f"\n{title}:\n")
        return " ".join(line.strip() for line in rest.split("\n\n")[0].splitlines()) if found else ""

    @property
    def paper(self) -> tuple[str, str]:
        """The first paper of the reference, and its year."""
        found = _PAPER.match(self.section("Reference"))
        return (found["paper"], found["year"]) if found else (self.section("Reference"), "")

    @property
    def searched(self) -> str:
        """The hyperparameters that a search chooses, with their ranges."""
        if self.kind in ("training", "control"):
            return ""
        return "; ".join(f"{each.name} {_range(each.range)}" for each in _parameters(self).values() if each.searched)


def entries() -> Iterator[Entry]:
    """Yield everything there is to choose from, encoders first."""
    kinds: Mapping[str, Mapping[str, Callable[..., Any]]] = {
        **ENCODERS,
        "fusion": FUSIONS,
        "training": STRATEGIES,
        "control": CONTROLS,
    }
    for kind, catalogue in kinds.items():
        for name, subject in catalogue.items():
            yield Entry(kind, name, subject)


def render_catalogue(name: str | None) -> Any:
    """Return rich tables of all components, or what one of them is and takes.

    Raises:
        UsageError: no component has that name.
    """
    found = [each for each in entries() if name is None or name in each.names]
    if not found:
        raise unknown("component", str(name), {known for each in entries() for known in each.names})
    from rich.console import Group

    kinds = dict.fromkeys(each.kind for each in found)
    if name is None or name in kinds:
        return Group(*(_table(kind, [each for each in found if each.kind == kind]) for kind in kinds), ENCODER_MISSING)
    return Group(*(part for each in found for part in _details(each)))


def catalogue_markdown() -> str:
    """Return the tables as Markdown, for the documentation."""
    everything = list(entries())
    lines = ["# Components", "", "Written by `ehrfusion components --markdown`. " + ENCODER_MISSING]
    for kind in dict.fromkeys(each.kind for each in everything):
        heads = _heads(kind)
        lines += ["", f"## {kind}", "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for each in everything:
            if each.kind == kind:
                cells = [f"`{each.name}`", *_cells(each)]
                lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _heads(kind: str) -> list[str]:
    missing = ["a missing modality"] if kind == "fusion" else []
    searched = ["searched parameters"] if kind not in ("training", "control") else []
    return ["name", "what it computes", "paper", "year", *missing, *searched]


def _cells(entry: Entry) -> list[str]:
    missing = [entry.section("Missing")] if entry.kind == "fusion" else []
    searched = [entry.searched] if entry.kind not in ("training", "control") else []
    return [entry.summary, *entry.paper, *missing, *searched]


def _table(kind: str, found: list[Entry]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(*_heads(kind), title=kind, show_lines=True, expand=True)
    for column, ratio in zip(table.columns[1:], (4, 4, None, 4, 3), strict=False):
        column.ratio = ratio
    for each in found:
        table.add_row(each.name, *map(Text, _cells(each)))
    return table


def _details(entry: Entry) -> Iterator[Any]:
    from rich.table import Table
    from rich.text import Text

    yield Text(f"{entry.kind}.{entry.name}", style="bold")
    yield Text(entry.text + "\n")
    if entry.kind in ("training", "control"):
        return
    table = Table("hyperparameter", "type", "default", "searched in")
    for each in _parameters(entry).values():
        kind_name = getattr(each.type, "__name__", str(each.type))
        asked = "" if each.searched or each.range is None else "if asked: "
        table.add_row(each.name, kind_name, repr(each.default), asked + _range(each.range))
    yield table
    if entry.kind in ENCODERS:
        yield ENCODER_MISSING


def _parameters(entry: Entry) -> dict[str, Any]:
    assert isinstance(entry.subject, type)
    return hyperparameters(entry.subject)


def _range(limits: Any) -> str:
    if limits is None:
        return "-"
    if isinstance(limits, Genome):
        return "the genes of all modalities"
    if isinstance(limits, Choice):
        return ", ".join(str(each) for each in limits.options)
    return f"{limits.low} to {limits.high}{' (log)' if limits.log else ''}"
