"""From the tables of MIMIC to a MEDS folder: patients in shards, memory bounded by the size of a shard."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion, conversion
from experiments.sources.folder import (
    split_by_group,
    write_codes,
    write_dataset,
    write_json,
    write_labels,
    write_splits,
)
from experiments.sources.images import Placing
from experiments.sources.knowledge import describe, hierarchy
from experiments.sources.ledger import Tally, counted, plain, write_ledger
from experiments.sources.mimic import knowledge
from experiments.sources.mimic.cohort import LONG_STAY_HOURS, labels
from experiments.sources.mimic.facts import Known, Table
from experiments.sources.mimic.films import (
    IMAGE_COLUMNS,
    METADATA,
    REPORTS,
    Films,
    find_reports,
    read_studies,
    report_facts,
    report_pieces,
)
from experiments.sources.mimic.given import with_entry
from experiments.sources.mimic.people import (
    People,
    Version,
    admission_facts,
    patient_facts,
    read_people,
    stay_facts,
)
from experiments.sources.mimic.readme import licence, readme
from experiments.sources.mimic.release import DICTIONARIES, NOT_TAKEN, TABLES, UNKNOWN, find_tables
from experiments.sources.mimic.times import read_timed
from experiments.sources.shards import codes_of, write_shards
from experiments.sources.tables import Kind, Parts, lay_pieces_apart, read_header, read_pieces, read_whole
from fusion.component import UsageError

_CORE = {"patients": patient_facts, "admissions": admission_facts, "icustays": stay_facts}


class _Source(NamedTuple):
    """The tables that were found, who is in them, and which shard each patient is in."""

    found: dict[str, Path]
    version: Version
    people: People
    shards: pl.DataFrame
    reports: Path | None


def convert_mimic(
    src: Path,
    out: Path,
    version: Version,
    *,
    hours: int = 24,
    beside: Sequence[Path] = (),
    images: Placing = "link",
    seed: int = 0,
    patients_per_shard: int = 1000,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert MIMIC-III or MIMIC-IV, demo or full, to a MEDS folder and return a summary.

    Predictions are made `hours` after admission to the unit. Memory is bounded by the size of a shard.

    Args:
        beside: folders with what is published apart: emergency department, notes, chest X-rays and their reports.
        images: whether X-rays are hard-linked into the folder, or copied.

    Raises:
        UsageError: a core table is missing, a table is damaged or lacks a column, or `out` exists.
    """
    src, out = Path(src), Path(out)
    if not 1 <= hours < LONG_STAY_HOURS:
        raise UsageError(f"hours must be from 1 to {LONG_STAY_HOURS - 1}, before the stay is a long one; got {hours}")
    started = time.monotonic()
    found = find_tables(src, version, [Path(each) for each in beside])
    reports = find_reports([src, *beside]) if version == 4 else None
    options: dict[str, Any] = {"version": version, "hours": hours, "seed": seed, "shard": patients_per_shard}
    options |= {"images": images, "reports": reports}
    with conversion(out, found.values(), options, overwrite=overwrite, progress=progress) as job:
        people = read_people(found, version)
        order = people.patients.sort("subject_id").select("subject_id")
        shards = order.with_columns(shard=pl.int_range(pl.len()) // patients_per_shard)
        source = _Source(found, version, people, shards, reports)
        ledger: dict[str, Tally] = defaultdict(Tally)
        missing = _lay_tables(source, ledger, job, images, progress)
        numbers = shards["shard"].unique().sort().to_list()
        extra = IMAGE_COLUMNS if METADATA in found else ()
        events = write_shards(
            job, numbers, ledger, lambda name, parts: _events(name, parts, extra), extra=extra, progress=progress
        )
        summary = _write_cohort(job.folder, people, hours, seed)
        summary |= {"codes": _write_knowledge(job.folder, source), "events": events, "missing_tables": missing}
        summary |= {"tables": plain(ledger)}
        write_ledger(job.folder / "reconciliation.csv", ledger)
        _write_about(job.folder, src, source, hours, summary)
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _lay_tables(
    source: _Source, ledger: dict[str, Tally], job: Conversion, images: Placing, progress: bool
) -> list[str]:
    """Lay the facts of all tables apart by shard; return the names of tables that are not there."""
    known = _known(source, job, images)
    tables = TABLES[source.version]
    steps: dict[str, Callable[[Tally], None]] = {name: partial(_lay_core, name, source, job.parts) for name in _CORE}
    steps |= {each.name: partial(_lay, each, source, known, job.parts) for each in tables if each.name in source.found}
    if source.reports is not None:
        steps[REPORTS] = partial(_lay_reports, source, known, job.parts)
    steps |= {name: partial(_skip, name, source) for name in source.found if name not in steps}
    with progress_bar("reading tables", len(steps), enabled=progress) as advance:
        for name, lay in steps.items():
            ledger[name] = Tally.of(job.steps.once(f"table {name}", partial(_tallied, lay)))
            advance()
    films = [REPORTS] if source.version == 4 else []
    return [name for name in (*(each.name for each in tables), *films, *DICTIONARIES) if name not in steps]


def _tallied(lay: Callable[[Tally], None]) -> dict[str, Any]:
    tally = Tally()
    lay(tally)
    return tally.plain()


def _lay_core(name: str, source: _Source, folder: Path, tally: Tally) -> None:
    tally.rows = getattr(source.people, "stays" if name == "icustays" else name).height
    taken = tally.take(_CORE[name](source.people), source.shards)
    lay_pieces_apart(name, iter([taken]), lambda piece: piece, source.shards, folder)


def _lay_reports(source: _Source, known: Known, folder: Path, tally: Tally) -> None:
    if source.reports is not None and known.films is not None:
        pieces = report_pieces(source.reports, known.films.studies)
        lay_pieces_apart(REPORTS, pieces, counted(tally, source.shards, report_facts), source.shards, folder)


def _skip(name: str, source: _Source, tally: Tally) -> None:
    tally.skip(_count(source.found[name]), NOT_TAKEN.get(name, UNKNOWN))


def _lay(table: Table, source: _Source, known: Known, folder: Path, tally: Tally) -> None:
    pieces = _pieces(table, source, tally)
    if table.aside:

        def kept(piece: pl.DataFrame) -> pl.DataFrame:
            tally.skip(piece.height, table.why)
            return piece.select("subject_id", *table.aside)

        lay_pieces_apart(table.name, pieces, kept, source.shards, folder)
    else:
        make = counted(tally, source.shards, lambda piece: table.facts(piece, known))
        lay_pieces_apart(table.name, pieces, make, source.shards, folder)


def _pieces(table: Table, source: _Source, tally: Tally) -> Iterator[pl.DataFrame]:
    for piece, reasons in read_timed(source.found[table.name], table.columns):
        for why, number in reasons.items():
            tally.skip(number, why)
        yield piece


def _known(source: _Source, job: Conversion, images: Placing) -> Known:
    """Gather what rows of large tables need to know from small ones."""
    admissions = source.people.admissions.select("hadm_id", "left")
    nothing = {"stay_id": pl.Int64(), "arrived": pl.Datetime("us"), "closed": pl.Datetime("us")}
    visits = pl.DataFrame(schema=nothing)
    if "edstays" in source.found:
        columns: dict[str, Kind] = {"stay_id": "integer", "hadm_id": "integer", "intime": "time", "outtime": "time"}
        table = read_whole(source.found["edstays"], columns)
        table = table.join(admissions, on="hadm_id", how="left").unique("stay_id", keep="first")
        visits = table.select("stay_id", arrived="intime", closed=pl.max_horizontal("outtime", "left"))
    names, labs = knowledge.item_names(source.found), knowledge.laboratory_names(source.found)
    return Known(admissions, visits, names, labs, _films(source, job.folder, images))


def _films(source: _Source, target: Path, images: Placing) -> Films | None:
    """Return where the X-rays are.

    Raises:
        UsageError: there are labels or reports of X-rays, but not the table that says when they were made.
    """
    if METADATA in source.found:
        path = source.found[METADATA]
        return Films(path.parent, target, images, read_studies(path, source.people.patients["subject_id"]))
    of_films = [str(path) for name, path in source.found.items() if name in ("cxr_chexpert", "cxr_negbio")]
    for without in [*of_films, *([str(source.reports)] if source.reports else [])]:
        raise UsageError(f"{without} needs the table metadata of MIMIC-CXR-JPG, which says when each study was")
    return None


def _count(path: Path) -> int:
    return sum(piece.height for piece in read_pieces(path, {read_header(path)[0]: "text"}))


def _events(name: str, parts: Parts, extra: Sequence[str]) -> pl.DataFrame | None:
    table = parts.read(name)
    if table is None or "code" not in table.columns:
        return None
    if "pharmacy_id" in table.columns:
        table = with_entry(table, parts)
    return table.with_columns(pl.lit(None, pl.String).alias(name) for name in extra if name not in table.columns)


def _write_knowledge(folder: Path, source: _Source) -> int:
    """Write the codes with their ancestors and names."""
    parents = hierarchy(codes_of(folder), knowledge.parent)
    names = knowledge.icd_titles(source.found, source.version)
    return write_codes(folder, parents, describe(parents, names), parents)


def _write_cohort(folder: Path, people: People, hours: int, seed: int) -> dict[str, Any]:
    """Write labels, their flow and the splits."""
    flow = {}
    for label in labels(people, hours):
        write_labels(folder, label.name, label.rows)
        flow[label.name] = label.steps
    write_json(folder / "cohort.json", {"labels": flow})
    groups = people.patients.select("subject_id", group="subject_id")
    return {
        "patients": people.patients.height,
        "hospital_stays": people.admissions.height,
        "unit_stays": people.stays.height,
        "died_in_hospital": int((people.admissions["hospital_expire_flag"] == 1).sum()),
        "over_89": int(people.patients["shifted"].fill_null(value=False).sum()),
        "labels": flow,
        "splits": write_splits(folder, split_by_group(groups, seed)),
    }


def _write_about(folder: Path, src: Path, source: _Source, hours: int, summary: dict[str, Any]) -> None:
    """Write what the data are, where they are from and on what terms."""
    terms = licence(src, source.version)
    declared: dict[str, Any] = {}
    if METADATA in source.found:
        declared = {"additional_value_modality_columns": ["image_path"], "other_extension_columns": ["view"]}
    write_dataset(folder, dataset_name=terms.name, dataset_version=terms.version, license=terms.licence, **declared)
    (folder / "README.md").write_text(readme(terms, source.version, hours, summary), encoding="utf-8")
    if terms.file is not None:
        shutil.copyfile(terms.file, folder / "LICENSE-DATA.txt")
