"""What one patient has before a prediction time, by modality, and what is known about the codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.component import UsageError


class UnreadableImage(UsageError):
    """An image file that is missing, damaged or too large to be one.

    Its text says the row of the data that names the file, where that is known, and not its `path`: people name image
    files after patients.
    """

    def __init__(self, path: Path, why: str, place: str = "") -> None:
        super().__init__(f"{place + ': ' if place else ''}unreadable image: {why}")
        self.path, self.why, self.place = path, why, place

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[Path, str, str]]:
        return UnreadableImage, (self.path, self.why, self.place)


class CodeEvents(NamedTuple):
    """Coded events, oldest first: diagnoses, drugs, laboratory values, vital signs, static facts.

    Shape:
        codes: N strings. days: (N,) float32, days before the prediction time (0 for static facts).
        values: (N,) float32, NaN where an event has no value.
    """

    codes: Sequence[str] | NDArray[np.object_]
    days: NDArray[np.float32]
    values: NDArray[np.float32]


class Note(NamedTuple):
    """A text, how many days before the prediction it became available, and its kind (the code without `NOTE//`)."""

    text: str
    days: float
    kind: str


class Image(NamedTuple):
    """An image file, how many days before the prediction time it became available, and its view."""

    path: Path
    days: float
    view: str


@dataclass(frozen=True)
class Record:
    """One patient at one prediction time; holds nothing from after it. Empty fields are missing modalities."""

    codes: CodeEvents = field(default_factory=lambda: no_events())
    notes: tuple[Note, ...] = ()
    images: tuple[Image, ...] = ()


class Edge(NamedTuple):
    """A fact of the knowledge graph: head relation tail."""

    head: str
    relation: str
    tail: str


class Measure(NamedTuple):
    """What the numbers of a code mean: their unit ("" where they have none), and where those of healthy adults lie."""

    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Knowledge:
    """What is known about codes outside any patient: descriptions, a graph, the molecules of drugs, units.

    `is_a` edges go from child to parent; `smiles` are molecules in the notation of that name.
    """

    edges: tuple[Edge, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)
    smiles: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)


def no_events() -> CodeEvents:
    """Return the coded events of a patient who has none."""
    return CodeEvents((), np.empty(0, np.float32), np.empty(0, np.float32))
