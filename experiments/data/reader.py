"""Records from a data folder, shard by shard: what was known about a patient at a prediction time, nothing later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from encoders.records import CodeEvents, Image, Note, Record, no_events
from experiments.data.folder import Dataset
from experiments.data.tables import INTEGER, NUMBER, TEXT, TIME, check_filled, read_table
from fusion.component import UsageError

BIRTH, AGE, NOTE = "MEDS_BIRTH", "AGE", "NOTE//"
_STATIC = np.iinfo(np.int64).min
_DAY = 86_400 * 1_000_000
_YEAR = 365.25 * _DAY
MODALITIES = ("codes", "notes", "images", "graph")


@dataclass(frozen=True)
class _Events:
    """Events of one kind in one shard, sorted by subject and time. Shape: each column (N,)."""

    subjects: NDArray[np.int64]
    times: NDArray[np.int64]
    columns: dict[str, NDArray[Any]]

    def until(self, subject: int, time: int) -> slice:
        """Return the positions of a subject's events up to a time, the static ones first."""
        first, last = np.searchsorted(self.subjects, [subject, subject + 1])
        end = first + int(np.searchsorted(self.times[first:last], time, side="right"))
        return slice(int(first), int(end))

    def recent(self, found: slice, time: int, window: float | None) -> NDArray[np.int64]:
        """Return positions in a slice that are static or inside the window before a time."""
        places = np.arange(found.start, found.stop)
        if window is None:
            return places
        times = self.times[found]
        kept: NDArray[np.int64] = places[(times == _STATIC) | (times >= time - window * _DAY)]
        return kept

    def days(self, places: NDArray[np.int64], time: int) -> NDArray[np.float32]:
        """Return days before a time, 0 for static events."""
        times = self.times[places]
        safe = np.where(times == _STATIC, time, times)
        return ((time - safe) / _DAY).astype(np.float32)


def iterate_records(
    dataset: Dataset,
    subject_ids: NDArray[np.int64],
    prediction_times: NDArray[np.datetime64],
    *,
    window_days: float | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> Iterator[tuple[int, Record]]:
    """Yield (row, record) for every row, in the order of the shards; subjects without any event come last, empty.

    Raises:
        UsageError: an event file lacks a column or has one of another type, or a subject is in two files.
    """
    times = prediction_times.astype("datetime64[us]").astype(np.int64)
    order = np.argsort(subject_ids, kind="stable")
    ordered = subject_ids[order]
    done = np.zeros(len(order), bool)
    for shard in dataset.shards:
        events = _read(dataset, shard, np.unique(subject_ids), modalities)
        here = np.unique(np.concatenate([each.subjects for each in events.values()]))
        starts, stops = np.searchsorted(ordered, here), np.searchsorted(ordered, here, side="right")
        twice = int(done[order[starts]].sum())
        if twice:  # MEDS: the events of a subject are in one file, or they could not be read shard by shard
            raise UsageError(f"{shard}: {twice} subjects have events in an earlier file too; a subject belongs in one")
        for start, stop in zip(starts, stops, strict=True):
            for row in order[start:stop]:
                done[row] = True
                yield int(row), _record(dataset, events, int(subject_ids[row]), int(times[row]), window_days)
    for row in np.flatnonzero(~done):
        yield int(row), Record()


_NEEDED = {"subject_id": INTEGER, "time": TIME, "code": TEXT}
_OPTIONAL = {"numeric_value": NUMBER, "text_value": TEXT, "view": TEXT}


def read_events(shard: Path, image_column: str | None, *, notes: bool = True) -> pl.DataFrame:
    """Read the columns of an event file that are used, in the types that are counted on.

    Raises:
        UsageError: it cannot be read, or lacks a column, or has one of another type or with a null it may not have.
    """
    optional = {**_OPTIONAL, **({image_column: TEXT} if image_column else {})}
    if not notes:
        del optional["text_value"]
    frame = read_table(shard, _NEEDED, optional, only=True)
    check_filled(shard, frame, ["subject_id", "code"])
    return frame


def _read(dataset: Dataset, shard: Path, wanted: NDArray[np.int64], modalities: Sequence[str]) -> dict[str, _Events]:
    """Read the wanted subjects' events of one shard, apart by kind."""
    frame = read_events(shard, dataset.image_column, notes="notes" in modalities)
    columns, image = frame.columns, dataset.image_column if dataset.image_column in frame.columns else None
    frame = frame.filter(pl.col("subject_id").is_in(wanted))
    frame = frame.with_columns(pl.col("time").cast(pl.Int64).fill_null(_STATIC).alias("time"))
    frame = frame.sort("subject_id", "time", maintain_order=True)
    is_note = pl.col("code").str.starts_with(NOTE)
    is_image = pl.col(image).is_not_null() if image else pl.lit(value=False)
    wants_codes = pl.lit(value="codes" in modalities or "graph" in modalities)
    is_text = pl.col("text_value").is_not_null() if "text_value" in columns else pl.lit(value=False)
    parts = {
        "births": (pl.col("code") == BIRTH, []),
        "codes": (wants_codes & ~is_note & ~is_image & (pl.col("code") != BIRTH), ["code", "numeric_value"]),
        "notes": (is_note & is_text, ["code", "text_value"]),
        "images": (is_image & pl.lit(value="images" in modalities), [image or "", "view"]),
    }
    found = {kind: _events(frame.filter(test), names) for kind, (test, names) in parts.items()}
    everyone = frame.select("subject_id").unique().sort("subject_id")["subject_id"].to_numpy()
    found["subjects"] = _Events(everyone, np.zeros(len(everyone), np.int64), {})
    return found


def _events(frame: pl.DataFrame, names: Sequence[str]) -> _Events:
    columns = {name: frame[name].to_numpy() for name in names if name in frame.columns}
    return _Events(frame["subject_id"].to_numpy(), frame["time"].to_numpy(), columns)


def _record(dataset: Dataset, events: dict[str, _Events], subject: int, time: int, window: float | None) -> Record:
    return Record(
        _codes(events["codes"], events["births"], subject, time, window),
        tuple(_notes(events["notes"], subject, time, window)),
        tuple(_images(dataset, events["images"], subject, time, window)),
    )


def _codes(events: _Events, births: _Events, subject: int, time: int, window: float | None) -> CodeEvents:
    places = events.recent(events.until(subject, time), time, window)
    born = births.until(subject, time)
    has_age = born.stop > born.start and births.times[born.start] != _STATIC
    if not len(places) and not has_age:
        return no_events()
    codes = events.columns["code"][places] if len(places) else np.empty(0, object)
    values = (
        events.columns["numeric_value"][places] if "numeric_value" in events.columns else np.full(len(places), np.nan)
    )
    days = events.days(places, time)
    values = values.astype(np.float32)
    if has_age:
        years = (time - births.times[born.start]) / _YEAR
        codes = np.concatenate([np.array([AGE], object), codes])
        days = np.concatenate([np.zeros(1, np.float32), days])
        values = np.concatenate([np.array([years], np.float32), values])
    return CodeEvents(codes, days, values)


def _notes(events: _Events, subject: int, time: int, window: float | None) -> Iterator[Note]:
    places = events.recent(events.until(subject, time), time, window)
    for place, days in zip(places, events.days(places, time), strict=True):
        yield Note(events.columns["text_value"][place], float(days), events.columns["code"][place].removeprefix(NOTE))


def _images(dataset: Dataset, events: _Events, subject: int, time: int, window: float | None) -> Iterator[Image]:
    places = events.recent(events.until(subject, time), time, window)
    for place, days in zip(places, events.days(places, time), strict=True):
        view = events.columns["view"][place] if "view" in events.columns else None
        name = events.columns[dataset.image_column or ""][place]
        yield Image(dataset.image(name), float(days), view or "")
