"""A copy of any MEDS dataset in one form: sorted, a patient in one file, ICD codes in one spelling."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import SPLITS, Dataset, open_dataset
from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion, conversion
from experiments.sources.facts import facts
from experiments.sources.folder import (
    split_by_group,
    write_json,
    write_splits,
)
from experiments.sources.given_labels import lay_given
from experiments.sources.images import ABSENT, Images
from experiments.sources.ledger import Tally, plain, write_ledger
from experiments.sources.meds.about import write_about, write_knowledge
from experiments.sources.moments import Clock
from experiments.sources.pieces import Origin, header_of
from experiments.sources.shards import in_order_of_life, shards_for, write_shards
from experiments.sources.spelling import respell
from experiments.sources.subjects import Subjects
from experiments.sources.tables import Parts, lay_pieces_apart
from experiments.sources.typed import Column, Typed
from fusion.component import UsageError, unknown

_PART = "events"
_BATCHES = 8  # into which the files are put; one that was read is not read again after an interruption
_LONG = 200  # letters from which a text looks like a note


@dataclass(frozen=True)
class _Job:
    """What is copied and how, and what was found on the way."""

    dataset: Dataset
    notes: re.Pattern[str] | None
    subjects: Subjects
    images: Images
    tally: Tally = field(default_factory=Tally)
    odd: Counter[str] = field(default_factory=Counter)
    unused: set[str] = field(default_factory=set)
    texts: Counter[str] = field(default_factory=Counter)

    @property
    def extra(self) -> tuple[str, ...]:
        """The columns beyond those of all events: site and image, if the dataset declares them."""
        site, image = self.dataset.site_column, self.dataset.image_column
        return (*([site] if site else []), *([image, "view"] if image else []))


def convert_meds(
    src: Path,
    out: Path,
    *,
    labels: Sequence[Path] = (),
    notes: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Copy a MEDS dataset of version 0.3 or 0.4 and return a summary.

    Args:
        labels: files or folders in MEDS' schema of labels; those in the source's own `labels` are copied, too.
        notes: a regular expression; events whose code it fits and that have a text become notes.

    Raises:
        UsageError: the source is no MEDS folder, a file is damaged or lacks a column, or `out` exists.
    """
    started, dataset = time.monotonic(), open_dataset(Path(src))
    pattern, options = _pattern(notes), {"notes": notes, "seed": seed}
    with conversion(Path(out), _sources(dataset, labels), options, overwrite=overwrite, progress=progress) as where:
        folder, count = where.folder, shards_for(dataset.shards)
        job = _Job(dataset, pattern, Subjects("integer", count), Images(folder))
        batches = _lay_all(job, where, progress)
        events = write_shards(
            where,
            range(count),
            {_PART: job.tally},
            lambda _, parts: _read(parts, batches),
            judge=in_order_of_life,
            extra=job.extra,
            progress=progress,
        )
        if not events:
            raise UsageError(f"{dataset.folder}: no event in any of its files")
        summary: dict[str, Any] = {"events": events, "codes": write_knowledge(folder, dataset)}
        summary |= _write_cohort(folder, job, labels, seed) | {"patients": len(job.subjects)}
        summary |= {"tables": plain({_PART: job.tally}), "notes": dict(job.odd), "unused": sorted(job.unused)}
        summary |= {"long_texts": dict(job.texts.most_common(3))}
        write_ledger(folder / "reconciliation.csv", {_PART: job.tally})
        write_about(folder, dataset, summary)
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _pattern(notes: str | None) -> re.Pattern[str] | None:
    try:
        return None if notes is None else re.compile(notes)
    except re.error as error:
        raise UsageError(f"notes: no regular expression: {error}") from None


def _sources(dataset: Dataset, labels: Sequence[Path]) -> list[Path]:
    """Return the files that are read, but for images."""
    folders = [dataset.folder / "metadata", dataset.folder / "labels", *(Path(each) for each in labels)]
    found = [path for each in folders for path in (sorted(each.rglob("*")) if each.is_dir() else [each])]
    return [*dataset.shards, *(path for path in found if path.is_file())]


def _lay_all(job: _Job, where: Conversion, progress: bool) -> list[str]:
    """Lay the events of all files apart by shard of patients, some files a step; return the names of the steps."""
    files = job.dataset.shards
    batches = {f"{_PART}{place}": files[place::_BATCHES] for place in range(min(_BATCHES, len(files)))}
    with progress_bar("reading event files", len(batches), enabled=progress) as advance:
        for name, batch in batches.items():
            met = len(job.subjects)
            found = where.steps.once(f"table {name}", partial(_lay, job, name, batch, where.parts))
            job.tally.add(Tally.of(found["tally"]))
            job.odd.update(found["odd"])
            job.texts.update(found["texts"])
            job.unused.update(found["unused"])
            job.subjects.remember(found["met"], met)
            job.images.places.update(found["placed"])
            advance()
    return list(batches)


def _lay(whole: _Job, name: str, files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Lay the events of some files apart; return what was counted, who was met, and which images were copied."""
    met, placed = len(whole.subjects), len(whole.images.places)
    job = _Job(whole.dataset, whole.notes, whole.subjects, whole.images)

    def pieces() -> Any:
        for shard in files:
            typed = Typed(Origin(str(shard), shard), _columns(job, shard))
            for piece in typed.pieces():
                job.tally.rows += piece.height
                yield job.subjects.meet(piece, "patient")
            for why, rows in typed.reasons.items():
                job.tally.skip(rows, why)
            job.odd.update(typed.notes)

    def rows(piece: pl.DataFrame) -> pl.DataFrame:
        return job.tally.take(_said(job, piece), job.subjects.numbered)

    lay_pieces_apart(name, pieces(), rows, lambda: job.subjects.numbered, folder)
    found = {"tally": job.tally.plain(), "odd": dict(job.odd), "texts": dict(job.texts), "unused": sorted(job.unused)}
    return found | {"met": job.subjects.since(met), "placed": job.images.since(placed)}


def _read(parts: Parts, batches: Sequence[str]) -> pl.DataFrame | None:
    frames = [frame for name in batches if (frame := parts.read(name)) is not None]
    return pl.concat(frames) if frames else None


def _columns(job: _Job, shard: Path) -> dict[str, Column]:
    """Return the columns of an event file that are read, by what they tell; note which are not."""
    header = header_of(Origin(str(shard), shard))
    patient = "patient_id" if "subject_id" not in header and "patient_id" in header else "subject_id"
    found = {
        "patient": Column("id", patient),
        "time": Column("time", "time", Clock(zone="UTC")),
        "code": Column("text", "code"),
    }
    optional = {"numeric_value": "numeric_value", "text_value": "text_value", "unit": "unit"}
    for name, told in (optional | dict.fromkeys(job.extra) | {each: each for each in job.extra}).items():
        if name in header:
            found[str(told)] = Column("number" if name == "numeric_value" else "text", name)
    job.unused.update(set(header) - {column.name for column in found.values()})
    return found


def _said(job: _Job, piece: pl.DataFrame) -> pl.DataFrame:
    """Return the facts in a piece; a null time is a static fact."""
    wanted = ("numeric_value", "text_value", "unit", *job.extra)
    absent = [pl.lit(None, pl.String).alias(name) for name in wanted if name not in piece.columns]
    piece = piece.with_columns(absent)
    image = job.dataset.image_column
    why = [("no patient", pl.col("subject_id").is_null())]
    if image:
        places = job.images.copy(job.dataset.folder, piece[image])
        piece = piece.with_columns(places.alias(image), absent=piece[image].is_not_null() & places.is_null())
        why.append((ABSENT, pl.col("absent")))
    found = facts(piece, None, pl.col("code"), unit=pl.col("unit"), text=pl.col("text_value"), why=why)
    found = found.with_columns(piece["time"], piece["numeric_value"].cast(pl.Float32), *(piece[e] for e in job.extra))
    return respell(_noted(job, found))


def _noted(job: _Job, found: pl.DataFrame) -> pl.DataFrame:
    """Mark notes as such; count the codes of other long texts, which no encoder would read."""
    texts = found.filter(pl.col("text_value").is_not_null() & ~pl.col("code").str.starts_with("NOTE//"))
    codes = texts["code"].drop_nulls().unique().to_list()
    named = {code: f"NOTE//{code}" for code in codes if job.notes is not None and job.notes.search(code)}
    long = texts.filter((pl.col("text_value").str.len_chars() >= _LONG) & ~pl.col("code").is_in(list(named)))
    job.texts.update(dict(long.group_by("code").len().iter_rows()))
    renamed = pl.when(pl.col("text_value").is_not_null()).then(pl.col("code").replace(named)).otherwise("code")
    return found.with_columns(code=renamed) if named else found


def _write_cohort(folder: Path, job: _Job, labels: Sequence[Path], seed: int) -> dict[str, Any]:
    """Write the splits, the source's or new ones, and labels of patients who are in one."""
    everybody = job.subjects.numbered.select("subject_id").sort("subject_id")
    given = job.dataset.splits
    if given is None:
        splits = split_by_group(everybody.with_columns(group="subject_id"), seed)
    else:
        splits = given
        for name in given["split"].unique(maintain_order=True):
            if name not in SPLITS:
                raise unknown("split", name, SPLITS, str(job.dataset.folder / "metadata" / "subject_splits.parquet"))
    own = {path.stem: path for path in sorted((job.dataset.folder / "labels").glob("*"))}
    chosen = {**own, **{Path(path).stem: Path(path) for path in labels}}
    flow = lay_given(folder, list(chosen.values()), splits.select("subject_id").unique())
    write_json(folder / "cohort.json", {"labels": flow})
    return {"labels": flow, "splits": write_splits(folder, splits), "splits_kept": given is not None}
