"""Checks of time: what encoders are given is what they would be given if the future had never been written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from encoders.preprocessor import Preparation, Preprocessor
from encoders.records import Record, UnreadableImage
from experiments.audit.evidence import Evidence, some
from experiments.audit.finding import Finding, Outcome, Skipped, rows_text
from experiments.data.folder import Dataset
from experiments.data.reader import iterate_records
from experiments.data.tables import INTEGER, TIME, read_table

_ROWS = 2000  # rows that are prepared anew without their future
_PICTURES = 200  # the same for images, which take long to read


def unseen_future(evidence: Evidence) -> Outcome:
    """The packed inputs of a row stay the same, bit for bit, when all that came after its prediction is deleted.

    This holds for whatever a preprocessor keeps and however it is read. One row a patient is looked at, drawn by the
    seed where there are very many.
    """
    _, first = np.unique(evidence.cohort.subject_ids, return_index=True)
    rows = some(np.sort(first), _ROWS, evidence.seed)
    findings = list(_after(evidence))
    with TemporaryDirectory(prefix="ehrfusion-audit-") as name:
        past = without_future(evidence, rows, Path(name))
        wrong: dict[str, list[int]] = {plan.modality: [] for plan in evidence.plans}
        pictures = set(some(rows, _PICTURES, evidence.seed).tolist())
        for row, record in _past_records(evidence, past, rows):
            for plan in evidence.plans:
                looked = plan.modality != "images" or row in pictures
                if looked and not _same(evidence, plan, row, record):
                    wrong[plan.modality].append(row)
    for modality, mine in wrong.items():
        if mine:
            what = f"{len(set(mine)):,} of {len(rows):,} rows of {modality} hold something from after the prediction"
            advice = "delete the prepared tensors in the runs folder's cache, and see who wrote them"
            findings.append(Finding("error", rows_text(mine), what, advice))
    return Outcome(f"{len(rows):,} rows of {len(evidence.plans)} preparations, without their future", findings)


def without_future(evidence: Evidence, rows: NDArray[np.int64], folder: Path) -> Dataset:
    """Write the events of some rows' patients up to the prediction, and no later one, into a folder.

    Rows must be of different patients.
    """
    if (metadata := evidence.dataset.folder.resolve() / "metadata").is_dir():
        (folder / "metadata").symlink_to(metadata)
    cut = evidence.predictions[rows].select("subject_id", pl.from_epoch("cut", time_unit="us"))
    for shard in evidence.dataset.shards:
        table = read_table(shard, {"subject_id": INTEGER, "time": TIME}).join(
            cut, on="subject_id", maintain_order="left"
        )
        past = table.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("cut"))).drop("cut")
        target = folder / shard.relative_to(evidence.dataset.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        past.write_parquet(target)
    return Dataset(folder)


def _past_records(evidence: Evidence, past: Dataset, rows: NDArray[np.int64]) -> Iterator[tuple[int, Record]]:
    cohort, window, folder = evidence.cohort, evidence.store.config.window_days, evidence.dataset.folder
    found = iterate_records(past, cohort.subject_ids[rows], cohort.prediction_times[rows], window_days=window)
    for place, record in found:
        images = (each._replace(path=folder / each.path.relative_to(past.folder)) for each in record.images)
        yield int(rows[place]), replace(record, images=tuple(images))


def _same(evidence: Evidence, plan: Preparation, row: int, record: Record) -> bool:
    """Tell whether a row's packed inputs are those of a record."""
    source = evidence.store.source(plan)
    place = int(source.row_index[row])
    wanted = _encode(source.preprocessor, record, evidence.store.config.bad_images == "missing")
    if wanted is None or place < 0:
        return wanted is None and place < 0
    start, stop = source.packed.offsets[place : place + 2].tolist()
    kinds = source.preprocessor.columns()
    for name, column in source.packed.columns.items():
        kept, mine = column[start:stop].numpy(), wanted[name].astype(kinds[name][0])
        if kept.shape != mine.shape or not np.array_equal(kept, mine, equal_nan=kept.dtype.kind == "f"):
            return False
    return True


def _encode(preprocessor: Preprocessor, record: Record, may_lack: bool) -> Mapping[str, NDArray[Any]] | None:
    while True:
        try:
            return preprocessor.encode(record)
        except UnreadableImage as error:
            if not may_lack:
                raise
            record = replace(record, images=tuple(each for each in record.images if each.path != error.path))


def _after(evidence: Evidence) -> Iterator[Finding]:
    """Find rows of which an input says itself that it is from after the prediction."""
    for plan in evidence.plans:
        source = evidence.store.source(plan)
        days = source.packed.columns.get("days")
        if days is None or not len(days):
            continue
        owner = np.repeat(np.arange(len(source.packed.offsets) - 1), np.diff(source.packed.offsets.numpy()))
        late = np.unique(owner[days.numpy().reshape(len(days), -1).min(1) < 0])
        rows = np.flatnonzero(np.isin(source.row_index.numpy(), late))
        if len(rows):
            what = f"{len(rows):,} rows of {plan.modality} hold inputs dated after the prediction"
            yield Finding("error", rows_text(rows), what, "delete the prepared tensors in the runs folder's cache")


def available(evidence: Evidence) -> Outcome:
    """No event or note that is used became available after the prediction, where the files say when it did."""
    table = evidence.timed
    if "available" not in table.columns:
        raise Skipped("the event files have no column available_time")
    dated = table.drop_nulls("available")
    joined = dated.join(evidence.predictions.select("row", "subject_id", "cut"), on="subject_id")
    early = joined.filter((pl.col("time") <= pl.col("cut")) & (pl.col("available") > pl.col("cut")))
    measured = f"{dated.height:,} events say when they became available"
    if not early.height:
        return Outcome(measured)
    what = f"{early.height:,} events that are used, {int(early['note'].sum()):,} of them notes, "
    what += "became available after the prediction"
    advice = "set `time` to when an event became available (available_time)"
    return Outcome(measured, [Finding("error", rows_text(early["row"]), what, advice)])
