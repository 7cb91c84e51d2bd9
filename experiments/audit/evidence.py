"""What the checks look at: the cohort, what was known of each row at its prediction time, the events as they lie."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from encoders.notes.words import split_words
from encoders.preprocessor import Preparation
from encoders.records import CodeEvents
from experiments.audit.links import linked
from experiments.data.cohort import Cohort
from experiments.data.folder import Dataset
from experiments.data.reader import BIRTH, NOTE, iterate_records
from experiments.data.store import Store
from experiments.data.tables import INTEGER, NUMBER, TEXT, TIME, read_table
from fusion.component import Spec

MOST_ROWS = 20_000  # training rows from which single features are read; more would say nothing new
_TIME = "time"


class SeenNote(NamedTuple):
    """A note that encoders may be given; its text is a hash in which numbers do not count."""

    row: int
    kind: str
    days: float
    digest: bytes
    length: int


class SeenImage(NamedTuple):
    """An image that encoders may be given."""

    row: int
    path: Path
    days: float


@dataclass(frozen=True)
class Seen:
    """What the reader hands out for N cohort rows, E coded events end to end.

    Shape:
        offsets (N + 1,): row i owns events offsets[i]:offsets[i + 1]; codes (E,) int32, places in `names`;
        days, values (E,) float32.
    """

    names: tuple[str, ...]
    offsets: NDArray[np.int64]
    codes: NDArray[np.int32]
    days: NDArray[np.float32]
    values: NDArray[np.float32]
    notes: tuple[SeenNote, ...]
    images: tuple[SeenImage, ...]
    words: dict[int, frozenset[str]]

    def events(self, row: int) -> CodeEvents:
        """Return the coded events of a row."""
        mine = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return CodeEvents(self._names[self.codes[mine]], self.days[mine], self.values[mine])

    @cached_property
    def _names(self) -> NDArray[np.object_]:
        return np.array(self.names, object)

    def counts(self) -> sparse.csr_matrix:
        """Return how often each row has each code. Shape: (N, C) float32."""
        rows = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        ones = np.ones(len(rows), np.float32)
        shape = (len(self.offsets) - 1, len(self.names))
        return sparse.csr_matrix((ones, (rows, self.codes)), shape=shape)

    def present(self) -> NDArray[np.bool_]:
        """Tell which rows have codes, notes and images. Shape: (N, 3)."""
        found = np.zeros((len(self.offsets) - 1, 3), bool)
        found[:, 0] = np.diff(self.offsets) > 0
        found[[note.row for note in self.notes], 1] = True
        found[[image.row for image in self.images], 2] = True
        return found


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything that the checks may look at; what is costly is read once, when a check first asks."""

    store: Store
    plans: Sequence[Preparation]
    encoders: Sequence[tuple[str, Spec]]
    seed: int = 0

    @property
    def dataset(self) -> Dataset:
        """The data folder."""
        return self.store.dataset

    @property
    def cohort(self) -> Cohort:
        """Who is predicted, when, and in which split."""
        return self.store.cohort

    @cached_property
    def sample(self) -> NDArray[np.int64]:
        """Training rows from which single features are read, all of them where they are few. Shape: (S,), sorted."""
        return some(self.cohort.rows("train"), MOST_ROWS, self.seed)

    @cached_property
    def seen(self) -> Seen:
        """What encoders may be given."""
        return _read(self)

    @cached_property
    def timed(self) -> pl.DataFrame:
        """All events with a time of the cohort's patients, also from after the prediction: what must not leak.

        Columns subject_id, time (microseconds), code, value, note (bool), and `available` (microseconds) where the
        files have a column `available_time`.
        """
        subjects = pl.DataFrame({"subject_id": np.unique(self.cohort.subject_ids)}).lazy()
        parts = [_events(path).join(subjects, on="subject_id", how="semi") for path in self.dataset.shards]
        return pl.concat(parts, how="diagonal").collect()

    @cached_property
    def predictions(self) -> pl.DataFrame:
        """One line a cohort row. Columns row, subject_id, cut (prediction time in microseconds), split."""
        times = self.cohort.prediction_times.astype("datetime64[us]").astype(np.int64)
        columns: dict[str, Any] = {"row": np.arange(len(times)), "subject_id": self.cohort.subject_ids, "cut": times}
        return pl.DataFrame({**columns, "split": self.cohort.split.tolist()})

    @cached_property
    def links(self) -> pl.DataFrame:
        """Pairs of patients who look like one person. Columns first, second, share; see `links.linked`."""
        return linked(self.timed, self.predictions)

    def classes(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield (name, who has it) of each label as a yes or no; a number is cut at its median.

        Shape:
            rows (n,) -> (n,) bool each.
        """
        task, targets = self.cohort.task, self.cohort.targets
        mine = targets[rows]
        if task.kind == "binary":
            yield "", mine == 1
        elif task.kind == "regression":
            yield "a value above the median", mine > np.median(targets[self.cohort.rows("train")])
        else:
            for place, name in enumerate(task.names):
                yield f"'{name}'", (mine[:, place] == 1) if task.kind == "multilabel" else (mine == place)


def some(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Return at most so many of some rows, drawn by a seed, in order. Shape: (n,) -> (m,)."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _events(path: Path) -> pl.LazyFrame:
    more = {"numeric_value": NUMBER, "available_time": TIME}
    frame = read_table(path, {"subject_id": INTEGER, _TIME: TIME, "code": TEXT}, more, only=True)
    table, names = frame.lazy(), frame.columns
    moment = pl.col(_TIME).cast(pl.Int64)
    columns = [pl.col("subject_id"), moment.alias(_TIME), pl.col("code")]
    value = pl.col("numeric_value").cast(pl.Float32) if "numeric_value" in names else pl.lit(None, pl.Float32)
    columns += [value.alias("value"), pl.col("code").str.starts_with(NOTE).alias("note")]
    if "available_time" in names:
        columns.append(pl.col("available_time").cast(pl.Datetime("us")).cast(pl.Int64).alias("available"))
    return table.filter(pl.col(_TIME).is_not_null() & (pl.col("code") != BIRTH)).select(columns)


def _read(evidence: Evidence) -> Seen:
    cohort = evidence.cohort
    numbers: dict[str, int] = {}
    wanted = set(evidence.sample.tolist())
    parts: dict[int, tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]] = {}
    notes: list[SeenNote] = []
    images: list[SeenImage] = []
    words: dict[int, frozenset[str]] = {}
    window = evidence.store.config.window_days
    for row, record in iterate_records(
        evidence.dataset, cohort.subject_ids, cohort.prediction_times, window_days=window
    ):
        codes = np.array([numbers.setdefault(code, len(numbers)) for code in record.codes.codes], np.int32)
        parts[row] = codes, record.codes.days, record.codes.values
        notes += [SeenNote(row, note.kind, note.days, _digest(note.text), len(note.text)) for note in record.notes]
        images += [SeenImage(row, image.path, image.days) for image in record.images]
        if row in wanted and record.notes:
            words[row] = frozenset(word for note in record.notes for word in split_words(note.text))
    ordered = [parts[row] for row in range(len(cohort.subject_ids))]
    codes, days, values = (np.concatenate(each) for each in zip(*ordered, strict=True))
    offsets = np.cumsum([0, *(len(each[0]) for each in ordered)])
    return Seen(tuple(numbers), offsets, codes, days, values, tuple(notes), tuple(images), words)


def _digest(text: str) -> bytes:
    """Hash a text without its numbers, which de-identification shifts. Case and spaces do not count."""
    return blake2b(" ".join(re.sub(r"\d+", "0", text.lower()).split()).encode(), digest_size=8).digest()
