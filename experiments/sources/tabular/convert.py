"""From a hospital's own tables and their description to a MEDS folder: one pass, memory bounded by a shard."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl

from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion, conversion
from experiments.sources.folder import (
    split_by_group,
    write_codes,
    write_dataset,
    write_json,
    write_splits,
)
from experiments.sources.icd import icd_parent
from experiments.sources.images import Images
from experiments.sources.knowledge import describe, hierarchy
from experiments.sources.ledger import Tally, plain, write_ledger
from experiments.sources.pieces import Origin, columns_of
from experiments.sources.shards import codes_of, in_order_of_life, shards_for, write_shards
from experiments.sources.subjects import Subjects
from experiments.sources.tables import Parts, lay_pieces_apart
from experiments.sources.tabular.labels import lay_labels, read_splits
from experiments.sources.tabular.mapping import EventTable, File, NoteTable, load_mapping
from experiments.sources.tabular.mapping import Mapping as TableMapping
from experiments.sources.tabular.readme import readme
from experiments.sources.tabular.rows import Table, columns, events_in, further_columns, images_in, notes_in
from experiments.sources.typed import Typed, written_names
from fusion.component import UsageError, unknown


@dataclass(frozen=True)
class _Job:
    """What is converted, and what was found on the way."""

    mapping: TableMapping
    frames: Mapping[str, Any]
    subjects: Subjects
    images: Images
    ledger: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    notes: Counter[str] = field(default_factory=Counter)

    def origin(self, table: File) -> Origin:
        """Return the file or DataFrame of a table.

        Raises:
            UsageError: there is none; the message has the nearest.
        """
        if table.file in self.frames:
            return Origin(table.file, frame=self.frames[table.file])
        path = self.mapping.source / table.file
        if not path.is_file():
            near = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
            raise unknown("table", table.file, [*near, *self.frames], str(self.mapping.source))
        return Origin(str(path), path, encoding=table.encoding, separator=table.separator)

    def tables(self) -> dict[str, Table]:
        """Return the tables of events by name; a file that is read twice has a number."""
        found: dict[str, Table] = {}
        every: list[Table] = [*self.mapping.events, *self.mapping.notes, *self.mapping.images]
        for table in every:
            number = sum(each.file == table.file for each in found.values())
            found[f"{table.file} ({number + 1})" if number else table.file] = table
        return found


def convert_tables(
    mapping: Path | TableMapping,
    out: Path,
    *,
    frames: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert a hospital's own tables to a MEDS folder and return a summary.

    Args:
        mapping: the description, or the YAML file with it.
        frames: DataFrames (polars, pandas, Arrow) that stand for files of these names.

    Raises:
        UsageError: a file, column, format or value is wrong, or `out` exists; with file, row and column.
    """
    mapping = mapping if isinstance(mapping, TableMapping) else load_mapping(mapping)
    frames, started = dict(frames or {}), time.monotonic()
    described: list[File] = [*mapping.events, *mapping.notes, *mapping.images, *mapping.labels]
    described += [mapping.splits] if mapping.splits else []
    files = [path for each in described if each.file not in frames and (path := mapping.source / each.file).is_file()]
    options = {"mapping": mapping.model_dump(mode="json"), "frames": _seen(frames)}
    with conversion(Path(out), files, options, overwrite=overwrite, progress=progress) as where:
        folder = where.folder
        paths = [mapping.source / each.file for each in (*mapping.events, *mapping.notes, *mapping.images)]
        count = shards_for(path for path in paths if path.is_file())
        job = _Job(mapping, frames, Subjects(mapping.ids, count), Images(folder))
        _check_columns(job)
        _lay_tables(job, where, progress)
        names = list(job.tables())
        events = write_shards(
            where,
            range(count),
            job.ledger,
            lambda name, parts: _events(parts, names.index(name)),
            judge=in_order_of_life,
            extra=further_columns(mapping),
            progress=progress,
        )
        if not events:
            raise UsageError(f"{mapping.source}: no event in any of the tables; see why: {_most(job.ledger)}")
        summary: dict[str, Any] = {"events": events, "tables": plain(job.ledger), "notes": dict(job.notes)}
        summary |= _write_cohort(folder, job)
        summary |= {"patients": len(job.subjects), "images": len(job.images.places)}
        summary |= {"codes": _write_knowledge(folder)}
        write_ledger(folder / "reconciliation.csv", job.ledger)
        _write_about(folder, mapping, summary)
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _check_columns(job: _Job) -> None:
    """Find every file and column before hours are spent on the first."""
    for table in job.tables().values():
        origin = job.origin(table)
        columns_of(origin, written_names(columns(table, job.mapping.ids, job.mapping.zone)))
    for label in job.mapping.labels:
        columns_of(job.origin(label), [label.patient, label.value, *filter(None, [label.time.column])])
    if job.mapping.splits is not None:
        columns_of(job.origin(job.mapping.splits), [job.mapping.splits.patient, job.mapping.splits.split])


def _seen(frames: Mapping[str, Any]) -> str | None:
    """Return what no other conversion has, where tables are in memory: whether they changed cannot be seen."""
    return uuid4().hex if frames else None


def _lay_tables(job: _Job, where: Conversion, progress: bool) -> None:
    tables = job.tables()
    with progress_bar("reading tables", len(tables), enabled=progress) as advance:
        for number, (name, table) in enumerate(tables.items()):
            met = len(job.subjects)
            found = where.steps.once(f"table {name}", partial(_lay, job, table, where.parts, number))
            job.ledger[name] = Tally.of(found["tally"])
            job.notes.update({f"{name}: {note}": n for note, n in found["notes"].items()})
            job.subjects.remember(found["met"], met)
            job.images.places.update(found["placed"])
            advance()


def _lay(job: _Job, table: Table, folder: Path, number: int) -> dict[str, Any]:
    """Lay the facts of a table apart; return what was counted, who was met, and which images were copied."""
    met, placed, tally = len(job.subjects), len(job.images.places), Tally()
    typed = Typed(job.origin(table), columns(table, job.mapping.ids, job.mapping.zone))
    pieces = _met(typed, job.subjects)
    lay_pieces_apart(_part(number), pieces, _rows(job, table, tally), lambda: job.subjects.numbered, folder)
    for why, rows in typed.reasons.items():
        tally.skip(rows, why)
    found = {"tally": tally.plain(), "notes": dict(typed.notes)}
    return found | {"met": job.subjects.since(met), "placed": job.images.since(placed)}


def _met(typed: Typed, subjects: Subjects) -> Iterator[pl.DataFrame]:
    return (subjects.meet(piece, "patient") for piece in typed.pieces())


def _rows(job: _Job, table: Table, tally: Tally) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return what makes events of a piece of a table and counts on the way."""

    def take(piece: pl.DataFrame) -> pl.DataFrame:
        tally.rows += piece.height
        return tally.take(_facts(job, table, piece), job.subjects.numbered)

    return take


def _facts(job: _Job, table: Table, piece: pl.DataFrame) -> pl.DataFrame:
    if isinstance(table, EventTable):
        found = events_in(piece, table)
    elif isinstance(table, NoteTable):
        found = notes_in(piece, table)
    else:
        found = images_in(piece, table, job.images, job.mapping.source)
    absent = [name for name in further_columns(job.mapping) if name not in found.columns]
    return found.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)


def _part(number: int) -> str:
    return f"{number:03d}"


def _events(parts: Parts, number: int) -> pl.DataFrame | None:
    return parts.read(_part(number))


def _most(ledger: Mapping[str, Tally]) -> str:
    """Say of each table the reason that left out most."""
    found = [f"{name}: {each.left_out.most_common(1)[0][0]}" for name, each in ledger.items() if each.left_out]
    return "; ".join(found) or "the tables have no rows"


def _write_cohort(folder: Path, job: _Job) -> dict[str, Any]:
    """Write labels, their flow and the splits."""
    mapping, flow = job.mapping, {}
    for label in mapping.labels:
        flow[label.name] = lay_labels(folder, label, job.origin(label), mapping.zone, job.subjects)
    write_json(folder / "cohort.json", {"labels": flow})
    if mapping.splits is None:
        everybody = job.subjects.numbered.sort("subject_id")
        splits = split_by_group(everybody.select("subject_id", group="subject_id"), mapping.seed)
    else:
        splits = read_splits(mapping.splits, job.origin(mapping.splits), job.subjects)
    job.subjects.write(folder)
    return {"labels": flow, "splits": write_splits(folder, splits)}


def _write_knowledge(folder: Path) -> int:
    """Write the codes; those of the ICD with what is above them."""
    parents = hierarchy(codes_of(folder), lambda code, _groups: icd_parent(code))
    return write_codes(folder, parents, describe(parents, {}), parents)


def _write_about(folder: Path, mapping: TableMapping, summary: dict[str, Any]) -> None:
    declared = {"additional_value_modality_columns": ["image_path"]} if mapping.images else {}
    if any(each.site for each in mapping.events):
        declared |= {"site_id_columns": ["site"]}
    write_dataset(
        folder, dataset_name=mapping.name, dataset_version=mapping.version, license=mapping.license, **declared
    )
    (folder / "README.md").write_text(readme(mapping, summary), encoding="utf-8")
