"""From the tables of OMOP to a MEDS folder: one pass over each, memory bounded by a shard."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl

from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion, conversion
from experiments.sources.folder import (
    split_by_group,
    write_codes,
    write_dataset,
    write_edges,
    write_json,
    write_splits,
)
from experiments.sources.given_labels import lay_given
from experiments.sources.icd import icd_description
from experiments.sources.ledger import Tally, plain, write_ledger
from experiments.sources.moments import Midnight, check_zone
from experiments.sources.omop import vocabulary
from experiments.sources.omop.readme import readme
from experiments.sources.omop.release import ABOUT_NOBODY, EVENT_TABLES, NOT_TAKEN, UNKNOWN, VOCABULARY, find_tables
from experiments.sources.omop.resolve import Coded, judged, numbers_in, resolved
from experiments.sources.omop.said import TABLES, Reading
from experiments.sources.pieces import Origin, header_of, raw_pieces
from experiments.sources.shards import codes_of, shards_for, write_shards
from experiments.sources.tables import lay_pieces_apart
from experiments.sources.typed import ROW, Column, Typed
from fusion.component import UsageError


@dataclass(frozen=True)
class _Job:
    """What is converted and how, and what was found on the way."""

    found: dict[str, Path]
    reading: Reading
    shards: pl.DataFrame
    ledger: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    notes: Counter[str] = field(default_factory=Counter)
    used: set[int] = field(default_factory=set)


def convert_omop(
    src: Path,
    out: Path,
    *,
    codes: Literal["standard", "source"] = "standard",
    coded: Coded = "visit-end",
    midnight: Midnight = "date",
    zone: str | None = None,
    labels: Sequence[Path] = (),
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert tables of the OMOP common data model 5.3 or 5.4 to a MEDS folder and return a summary.

    Args:
        codes: take the standard concept, or that of the source; the other where there is none.
        coded: diagnoses and procedures count from the end of their visit, or from their own date.
        midnight: what a time of midnight sharp is: a time, or a date that lost its hour and counts from the day's end.
        zone: that of times without one; then all become UTC.
        labels: files or folders in MEDS' schema of labels, by person_id.

    Raises:
        UsageError: there is no person, a table is damaged or lacks a column, or `out` exists.
    """
    src, out, started = Path(src), Path(out), time.monotonic()
    reading = Reading(codes, None if zone is None else check_zone(zone), midnight)
    found = find_tables(src)
    given = [path for each in labels for path in (sorted(Path(each).rglob("*")) if Path(each).is_dir() else [each])]
    options = {"codes": codes, "coded": coded, "midnight": midnight, "zone": zone, "seed": seed}
    sources = [*found.values(), *(path for path in given if Path(path).is_file())]
    with conversion(out, sources, options, overwrite=overwrite, progress=progress) as where:
        folder = where.folder
        job = _Job(found, reading, _persons(found))
        missing = _lay_tables(job, where, progress)
        pairs = vocabulary.climb(job.used, vocabulary.pairs_above(found))
        mapped = vocabulary.related(found, "Maps to").filter(pl.col("child").is_in(list(job.used)))
        wanted = {*job.used, *pairs["parent"], *mapped["parent"]}
        concepts = vocabulary.read_concepts(found.get("concept"), wanted)
        numbers = job.shards["shard"].unique().sort().to_list()
        events = write_shards(
            where,
            numbers,
            job.ledger,
            lambda name, parts: resolved(name, parts, concepts, coded),
            judge=judged,
            extra=("site",),
            progress=progress,
        )
        summary: dict[str, Any] = {"patients": job.shards.height, "events": events, "missing_tables": missing}
        summary |= {"codes": _write_knowledge(folder, concepts, pairs, mapped)}
        summary |= _write_cohort(folder, job, labels, seed)
        summary |= {"tables": plain(job.ledger), "notes": dict(job.notes)}
        write_ledger(folder / "reconciliation.csv", job.ledger)
        _write_about(folder, reading, coded, summary)
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _persons(found: dict[str, Path]) -> pl.DataFrame:
    """Deal the persons to shards.

    Raises:
        UsageError: one is there twice, has no id, or there is none.
    """
    path = found["person"]
    pieces = [each.rename({"person_id": "subject_id"}) for each in Typed(_origin(path), _PERSON).pieces()]
    if not pieces:
        raise UsageError(f"{path}: no person in it")
    table = pl.concat(pieces)
    for wrong, why in (
        (table["subject_id"].is_null(), "column 'person_id' is empty"),
        (~table["subject_id"].is_first_distinct(), "'person_id' repeats a row above"),
    ):
        if wrong.any():
            raise UsageError(f"{path}: row {table.filter(wrong)[ROW][0]}: {why}")
    count = shards_for(found[name] for name in EVENT_TABLES if name in found)
    return table.select("subject_id").sort("subject_id").with_columns(shard=pl.int_range(pl.len()) * count // pl.len())


_PERSON = {"person_id": Column("id", "person_id")}


def _origin(path: Path) -> Origin:
    return Origin(str(path), path)


def _lay_tables(job: _Job, where: Conversion, progress: bool) -> list[str]:
    """Lay the facts of all tables apart by shard; return the names of tables that are not there."""
    others = [name for name in job.found if name not in {*TABLES, *VOCABULARY, *ABOUT_NOBODY}]
    with progress_bar("reading tables", len(TABLES) + len(others), enabled=progress) as advance:
        for name in TABLES:
            if name in job.found:
                found = where.steps.once(f"table {name}", partial(_lay, job, name, where.parts))
                job.ledger[name] = Tally.of(found["tally"])
                job.notes.update(found["notes"])
                job.used.update(found["used"])
            advance()
        for name in others:
            rows = where.steps.once(f"table {name}", partial(_count, job.found[name]))
            job.ledger[name].skip(rows, NOT_TAKEN.get(name, UNKNOWN))
            advance()
    return [name for name in (*EVENT_TABLES, *VOCABULARY) if name not in job.found]


def _lay(job: _Job, name: str, folder: Path) -> dict[str, Any]:
    """Lay the facts of a table apart; return what was counted, and which concepts are used."""
    table, tally, origin, used = TABLES[name], Tally(), _origin(job.found[name]), set[int]()
    typed = Typed(origin, table.columns(origin, job.reading))

    def take(piece: pl.DataFrame) -> pl.DataFrame:
        tally.rows += piece.height
        kept = tally.take(table.said(piece), job.shards)
        used.update(numbers_in(kept))
        return kept

    lay_pieces_apart(name, typed.pieces(), take, job.shards, folder)
    for why, rows in typed.reasons.items():
        tally.skip(rows, why)
    notes = {f"{name}: {note}": n for note, n in typed.notes.items()}
    return {"tally": tally.plain(), "notes": notes, "used": sorted(used)}


def _count(path: Path) -> int:
    origin = _origin(path)
    return sum(piece.height for _, piece in raw_pieces(origin, header_of(origin)[:1]))


def _write_knowledge(folder: Path, concepts: pl.DataFrame, pairs: pl.DataFrame, mapped: pl.DataFrame) -> int:
    """Write the codes with what stands above them, and into which standard concepts others are mapped."""
    code = concepts.select("concept", "code")
    edges = mapped.join(code.rename({"concept": "child", "code": "head"}), on="child")
    edges = edges.join(code.rename({"concept": "parent", "code": "tail"}), on="parent").drop_nulls()
    edges = edges.filter(pl.col("head") != pl.col("tail")).select("head", "tail", relation=pl.lit("maps_to"))
    if edges.height:
        write_edges(folder, edges)
    codes = codes_of(folder)
    parents = vocabulary.parents_of({*codes, *edges["head"], *edges["tail"]}, concepts, pairs)
    names = dict(concepts.select("code", "name").drop_nulls().iter_rows())
    said = {each: _description(each, names) for each in parents}
    return write_codes(folder, parents, {each: text for each, text in said.items() if text}, parents)


def _description(code: str, names: dict[str, str]) -> str | None:
    question, _, answer = code.partition("|")
    if answer in names and question in names:
        return f"{names[question]}: {names[answer]}"
    return names.get(code.removeprefix("CAUSE_OF_DEATH//")) or icd_description(code)


def _write_cohort(folder: Path, job: _Job, labels: Sequence[Path], seed: int) -> dict[str, Any]:
    """Write labels, their flow and the splits."""
    everybody = job.shards.select("subject_id")
    flow = lay_given(folder, labels, everybody)
    write_json(folder / "cohort.json", {"labels": flow})
    splits = split_by_group(everybody.with_columns(group="subject_id"), seed)
    return {"labels": flow, "splits": write_splits(folder, splits)}


def _write_about(folder: Path, reading: Reading, coded: Coded, summary: dict[str, Any]) -> None:
    write_dataset(
        folder, dataset_name="OMOP CDM", dataset_version="1", license="as the source", site_id_columns=["site"]
    )
    (folder / "README.md").write_text(readme(reading, coded, summary), encoding="utf-8")
