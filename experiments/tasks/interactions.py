"""Which classes of drugs interact, from a file, and how often such pairs are given together."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.given_together import pairs_given
from fusion.component import UsageError, unknown
from fusion.task import Task

if TYPE_CHECKING:
    from experiments.data.folder import Dataset

_COLUMNS = ["first", "second"]
KNOWN = "drug_classes"
"""Stands in place of a file for the pairs of `known_interactions.csv` among the labels."""


def read_interactions(path: Path, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Read pairs of interacting classes as a symmetric matrix.

    Args:
        path: CSV with the columns first and second, a pair a line; or `drug_classes` for the well-known pairs that come
            with the package.
        classes: the labels of a task; pairs with a class that is none of them are refused, the package's left out.

    Shape:
        -> (K, K), no class interacts with itself.

    Raises:
        UsageError: the file is not there, has other columns, an unknown class, or a class beside itself.
    """
    if str(path) == KNOWN:
        return known_interactions(classes)
    if not path.is_file():
        raise UsageError(f"no such file: {path}; or say {KNOWN} for the pairs that come with the package")
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except ValueError:
        raise UsageError(f"{path}: not readable as CSV: it is no UTF-8 text") from None
    if not lines or lines[0] != _COLUMNS:
        raise UsageError(f"{path}: expected the columns first, second; got {', '.join(lines[0]) if lines else 'none'}")
    place = {name: number for number, name in enumerate(classes)}
    found = np.zeros((len(classes), len(classes)), bool)
    for row, pair in enumerate(lines[1:], start=1):
        if len(pair) != 2 or pair[0] == pair[1]:
            raise UsageError(f"{path}: row {row}: expected two classes that differ; got {', '.join(pair) or 'nothing'}")
        for name in pair:
            if name not in place:
                raise unknown("drug class", name, list(place), f"{path}: row {row}")
        found[place[pair[0]], place[pair[1]]] = found[place[pair[1]], place[pair[0]]] = True
    return found


def known_interactions(classes: Sequence[str]) -> NDArray[np.bool_]:
    """Return which classes of drugs of the third ATC level interact by the package's own short list. Shape: (K, K).

    Raises:
        UsageError: none of the classes is in it.
    """
    text = (resources.files("experiments") / "tasks" / "known_interactions.csv").read_text(encoding="utf-8")
    place = {name: number for number, name in enumerate(classes)}
    pairs = [(line["first"], line["second"]) for line in csv.DictReader(text.splitlines())]
    inside = [(place[first], place[second]) for first, second in pairs if first in place and second in place]
    if not inside:
        raise UsageError(f"{KNOWN}: none of its pairs is among the labels; they must be ATC classes such as B01A")
    found = np.zeros((len(classes), len(classes)), bool)
    first, second = np.array(inside).T
    found[first, second] = found[second, first] = True
    return found


def write_interactions(path: Path, matrix: NDArray[np.bool_], classes: Sequence[str]) -> None:
    """Write pairs as `read_interactions` reads them. Shape: (K, K)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        pairs = ([classes[first], classes[second]] for first, second in np.argwhere(np.triu(matrix)))
        csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *pairs])


def interaction_rate(given: NDArray[Any], matrix: NDArray[np.bool_]) -> float | None:
    """Return the share of interacting pairs among all pairs of classes given together; None where there is no pair.

    Shape:
        given (N, K) boolean or probabilities cut at a threshold; matrix (K, K) symmetric.

    Reference:
        Shang et al., GAMENet: Graph Augmented Memory Networks for Recommending Medication Combination, 2019 (the DDI
        rate, over the pairs of all rows).
    """
    interacting, pairs = pairs_given(given, matrix).sum(0)
    return float(interacting / pairs) if pairs else None


def interactions_path(dataset: Dataset, labels: str) -> Path:
    """Return where the interactions of a label's classes lie, if they were given: beside its task."""
    return dataset.folder / "tasks" / dataset.label_path(labels).name / "interactions.csv"


def interactions_fingerprint(dataset: Dataset, labels: str) -> str:
    """Hash which of a label's classes interact, as the file says; tasks are no part of the data's fingerprint."""
    path = interactions_path(dataset, labels)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"


def label_interactions(dataset: Dataset, labels: str, task: Task) -> NDArray[np.bool_] | None:
    """Return which of a task's labels interact; None where that was not given, or there are not several labels.

    Shape:
        -> (K, K).
    """
    path = interactions_path(dataset, labels)
    return read_interactions(path, task.names) if task.kind == "multilabel" and path.is_file() else None
