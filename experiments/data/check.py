"""Validate a data folder and say who has what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import meds
import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from encoders.records import CodeEvents, UnreadableImage
from experiments.data.cohort import read_labels
from experiments.data.folder import OUTSIDE, SPLIT_FILE, SPLITS, Dataset, is_inside, open_dataset
from experiments.data.quality import quality, render_quality
from experiments.data.reader import iterate_records, read_events
from experiments.data.suspicions import late_events, loose_graph, telling_features
from fusion.component import UsageError

MODALITIES = ("codes", "notes", "images")


@dataclass(frozen=True)
class Problem:
    """Something wrong or worth knowing: where, and what was wanted."""

    severity: Literal["error", "warning", "info"]
    file: str
    message: str
    row: int | None = None
    column: str | None = None


@dataclass
class Check:
    """What was found in a folder."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    patients: int = 0
    events: int = 0
    codes: int = 0
    first: Any = None
    last: Any = None
    labels: dict[str, pl.DataFrame] = field(default_factory=dict)
    flow: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    quality: pl.DataFrame | None = None

    def tell(self, error: UsageError, file: str) -> None:
        """Note as a problem what kept a file from being read, once."""
        text = str(error)
        if text.startswith(f"{self.folder}/"):  # it says itself which
            file, _, text = text.removeprefix(f"{self.folder}/").partition(": ")
        problem = Problem("error", file, text)
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(problem.severity == "error" for problem in self.problems)


def check(folder: Path) -> Check:
    """Validate a folder against the MEDS schemas and summarise it; shard by shard.

    Raises:
        UsageError: the folder does not exist or holds no events.
    """
    dataset = open_dataset(folder)
    found = Check(dataset.folder)
    _events(dataset, found)
    try:
        found.problems += _splits(dataset)
    except UsageError as error:
        found.tell(error, SPLIT_FILE)
    try:
        loose = loose_graph(dataset.knowledge(), set(dataset.code_table["code"].drop_nulls().to_list()))
        found.problems += [Problem("warning", file, text) for file, text in loose]
    except UsageError as error:
        found.tell(error, "graph/edges.parquet")
    for path in sorted((dataset.folder / "labels").glob("**/*.parquet")):
        with suppress(UsageError):  # an event file that cannot be read was named above
            _labels(dataset, path, found)
    with suppress(UsageError):  # the same
        found.quality = quality(dataset)
    try:
        found.flow = dataset.flow()
    except UsageError as error:
        found.tell(error, "cohort.json")
    return found


def _known_codes(dataset: Dataset, found: Check) -> set[str]:
    try:
        return set(dataset.code_table["code"].drop_nulls().to_list())
    except UsageError as error:
        found.tell(error, "metadata/codes.parquet")
        return set()


def _events(dataset: Dataset, found: Check) -> None:
    known = _known_codes(dataset, found)
    seen: set[int] = set()
    codes: set[str] = set()
    for shard in dataset.shards:
        name = shard.relative_to(dataset.folder).as_posix()
        try:
            frame = read_events(shard, dataset.image_column)
        except UsageError as error:
            found.tell(error, name)
            continue
        found.problems += _schema(shard, name)
        found.events += frame.height
        subjects = frame["subject_id"]
        here = set(subjects.unique().to_list())
        twice = len(here & seen)
        if twice:
            found.problems.append(Problem("error", name, f"{twice} subjects are in an earlier shard too"))
        seen |= here
        codes |= set(frame["code"].unique().to_list())
        found.problems += _order(frame, name)
        found.problems += _images(dataset, frame, name)
        times = frame["time"].drop_nulls()
        if len(times):
            found.first = min(filter(None, (found.first, times.min())))
            found.last = max(filter(None, (found.last, times.max())))
    found.patients, found.codes = len(seen), len(codes)
    lacking = codes - known
    if lacking:
        text = f"{len(lacking)} codes of the events are not described here, e.g. {min(lacking)}"
        found.problems.append(Problem("warning", "metadata/codes.parquet", text))


def _schema(shard: Path, name: str) -> Iterator[Problem]:
    """Yield what MEDS' schema has against a file that is read all the same."""
    try:
        meds.DataSchema.validate(pq.read_table(shard))
    except Exception as error:  # the schema package raises its own kinds
        yield Problem("warning", name, f"is read, but not in the types of MEDS 0.4: {str(error).splitlines()[0]}")


def _order(frame: pl.DataFrame, name: str) -> Iterator[Problem]:
    same = frame.with_columns(
        pl.col("time").fill_null(pl.datetime(1, 1, 1, time_unit="us")).alias("t"),
        (pl.col("subject_id") != pl.col("subject_id").shift(1)).alias("new"),
    )
    if int(same["new"].sum()) + 1 != same["subject_id"].n_unique():
        yield Problem("error", name, "the events of a subject are not side by side")
    wrong = same.with_row_index().filter(~pl.col("new") & (pl.col("t") < pl.col("t").shift(1)))
    if wrong.height:
        yield Problem("error", name, "events are not sorted by time", int(wrong["index"][0]), "time")
    if "numeric_value" in frame.columns:
        bad = frame.with_row_index().filter(pl.col("numeric_value").is_infinite())
        if bad.height:
            yield Problem("error", name, "a value is infinite", int(bad["index"][0]), "numeric_value")


def _images(dataset: Dataset, frame: pl.DataFrame, name: str) -> Iterator[Problem]:
    column = dataset.image_column
    if column is None:
        return
    from encoders.images.reading import read_pixels  # its package loads torch: not for folders without images

    if column not in frame.columns:
        yield Problem("error", name, "the image column that metadata/dataset.json declares is missing", None, column)
        return
    for row, path in frame.with_row_index().filter(pl.col(column).is_not_null()).select("index", column).iter_rows():
        place = dataset.folder / path
        if not is_inside(dataset.folder, place):
            yield Problem("error", name, OUTSIDE, row, column)
            continue
        try:
            read_pixels(place, 8, 1)
        except UnreadableImage as error:
            yield Problem("error", name, str(error), row, column)


def _splits(dataset: Dataset) -> Iterator[Problem]:
    name, table = SPLIT_FILE, dataset.splits
    if table is None:
        yield Problem("warning", name, "there are no splits; choose data.splits.by: patient, time or site")
        return
    twice = table.group_by("subject_id").len().filter(pl.col("len") > 1).height
    if twice:
        yield Problem("error", name, f"{twice} subjects are in more than one split")
    for split in SPLITS:
        if split not in table["split"].to_list():
            yield Problem("error", name, f"split '{split}' is empty")


def _labels(dataset: Dataset, path: Path, found: Check) -> None:
    name = path.relative_to(dataset.folder).as_posix()
    try:
        table, column = read_labels(path)
    except UsageError as error:
        found.tell(error, name)
        return
    subjects = table["subject_id"].to_numpy().astype(np.int64)
    times = table["prediction_time"].to_numpy().astype("datetime64[us]")
    has = np.zeros((len(subjects), len(MODALITIES)), bool)
    train = _training(dataset, table) if column == "boolean_value" else np.zeros(len(table), bool)
    coded: dict[int, CodeEvents] = {}
    for row, record in iterate_records(dataset, subjects, times):
        has[row] = [len(record.codes.codes) > 0, bool(record.notes), bool(record.images)]
        if train[row]:
            coded[row] = record.codes
    if coded:
        positive = table[column].to_numpy()[list(coded)]
        for each in telling_features(list(coded.values()), positive):
            found.problems.append(Problem("warning", name, f"may give the label away: {each.code}: {each.why}"))
    late, notes = late_events(dataset, table)
    if late:
        text = f"{late:,} events come after the prediction time, {notes:,} of them notes; no encoder sees them"
        found.problems.append(Problem("info", name, text))
    value = table[column].cast(pl.Float64) if table[column].dtype != pl.String else pl.Series([None] * len(table))
    pattern = pl.DataFrame({m: has[:, i] for i, m in enumerate(MODALITIES)}).with_columns(value.alias("value"))
    counted = pattern.group_by(MODALITIES).agg(pl.len().alias("n"), pl.col("value").mean().alias("mean"))
    found.labels[name] = counted.sort("n", descending=True)
    splits = dataset.splits
    if splits is not None and column == "boolean_value":
        joined = table.join(splits, on="subject_id", how="left")
        for split, count, positive in (
            joined.group_by("split").agg(pl.len(), pl.col(column).sum().alias("positive")).sort("split").iter_rows()
        ):
            if split is None:
                found.problems.append(Problem("error", name, f"{count} labels are of subjects without a split"))
            elif positive in (0, count):
                found.problems.append(Problem("error", name, f"split '{split}' has one class only"))
            else:
                text = f"{split}: {count} predictions, {positive} positive ({positive / count:.1%})"
                found.problems.append(Problem("info", name, text))


def _training(dataset: Dataset, table: pl.DataFrame) -> NDArray[np.bool_]:
    """Tell which labels are of training patients; none where the folder has no splits."""
    if dataset.splits is None:
        return np.zeros(len(table), bool)
    mine = dataset.splits.filter(pl.col("split") == "train")["subject_id"]
    return table["subject_id"].is_in(mine.to_list()).to_numpy()


def render(found: Check) -> Any:
    """Return what was found as rich tables."""
    from rich.console import Group
    from rich.table import Table

    head = f"{found.folder}: {found.patients:,} patients, {found.events:,} events, {found.codes:,} codes"
    parts: list[Any] = [f"{head}, {found.first} to {found.last}"]
    for name, patterns in found.labels.items():
        table = Table(*MODALITIES, "n", "share", "mean label", title=f"{name}: who has what at the prediction time")
        total = int(patterns["n"].sum())
        for *has, count, mean in patterns.iter_rows():
            marks = ["yes" if each else "-" for each in has]
            table.add_row(*marks, f"{count:,}", f"{count / total:.1%}", "in classes" if mean is None else f"{mean:.3f}")
        parts.append(table)
    for name, steps in found.flow.items():
        flow = Table("step", "n", title=f"{name}: who is predicted")
        for step in steps:
            flow.add_row(str(step["step"]), f"{step['n']:,}")
        parts.append(flow)
    if found.quality is not None and found.quality.height:
        parts.append(render_quality(found.quality))
    problems = Table("", "file", "row", "column", "what")
    for problem in found.problems:
        row = "" if problem.row is None else str(problem.row)
        problems.add_row(problem.severity, problem.file, row, problem.column or "", problem.message)
    if found.problems:
        parts.append(problems)
    parts.append("no errors" if found.ok else "there are errors")
    return Group(*parts)
