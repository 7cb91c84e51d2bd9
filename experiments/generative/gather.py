"""The records of a folder at the prediction times of one of its labels, summed up, and who is in which split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoders.records import Record, no_events
from experiments.data.cohort import Cohort, load_cohort
from experiments.data.folder import Dataset, open_dataset
from experiments.data.reader import iterate_records
from experiments.data_config import DataConfig, SplitConfig
from experiments.generative.facts import Facts, ancestors_of, facts_of
from experiments.progress import progress_bar
from fusion.component import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class Gathered:
    """A cohort, the facts of each of its rows, and some of its records as they were."""

    cohort: Cohort
    facts: list[Facts]
    records: dict[int, Record]
    ancestors: dict[str, frozenset[str]]
    label: str

    def of(self, split: str) -> list[Facts]:
        """Return the facts of a split."""
        return [self.facts[row] for row in self.cohort.rows(split)]


def gather(folder: Path, label: str | None, *, keep: str = "", most: int = 0, progress: bool = False) -> Gathered:
    """Read every record of a label once.

    Args:
        label: its name; may be left out where the folder has one only.
        keep: the split of which up to `most` records stay in memory as they were, the first ones.

    Raises:
        UsageError: there is no label or none is chosen, or the data are not as they should be.
    """
    dataset = open_dataset(folder)
    name = label or _only_label(dataset)
    splits = SplitConfig(by="folder" if dataset.splits is not None else "patient")
    cohort = load_cohort(dataset, DataConfig(folder=folder, labels=name, splits=splits))
    ancestors = ancestors_of(dataset.knowledge())
    kept = set(cohort.rows(keep)[:most].tolist()) if keep else set()
    records: dict[int, Record] = {}
    empty = facts_of(Record(no_events()), ancestors)
    facts = [empty] * len(cohort.subject_ids)
    with progress_bar("reading records", len(facts), enabled=progress) as advance:
        for row, record in iterate_records(dataset, cohort.subject_ids, cohort.prediction_times):
            facts[row] = facts_of(record, ancestors)
            if row in kept:
                records[row] = record
            advance()
    return Gathered(cohort, facts, records, ancestors, name)


def binary_label(gathered: Gathered) -> Array:
    """Return the label of each row, 0 or 1.

    Raises:
        UsageError: the label is of another kind.
    """
    if gathered.cohort.task.kind != "binary":
        kind = gathered.cohort.task.kind
        raise UsageError(f"label '{gathered.label}' is {kind}; synthetic rows are made for binary labels only")
    return np.asarray(gathered.cohort.targets, np.float64)


def _only_label(dataset: Dataset) -> str:
    names = sorted({path.stem for path in (dataset.folder / "labels").glob("*")})
    if len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"{dataset.folder}: there are no labels, so nobody knows when to look at a patient")
    raise UsageError(f"{dataset.folder}: choose when to look at patients with --labels: {', '.join(names)}")
