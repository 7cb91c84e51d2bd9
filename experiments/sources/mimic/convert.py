"""From the tables of MIMIC to a MEDS folder: patients in shards, memory bounded by the size of a shard."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from experiments.progress import progress_bar
from experiments.sources.eicu.knowledge import describe, hierarchy
from experiments.sources.folder import (
    new_folder,
    split_by_group,
    write_codes,
    write_dataset,
    write_json,
    write_labels,
    write_splits,
)
from experiments.sources.ledger import Tally, counted, plain, write_ledger
from experiments.sources.mimic import knowledge
from experiments.sources.mimic.cohort import LONG_STAY_HOURS, labels
from experiments.sources.mimic.facts import Known, Table
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


def convert_mimic(
    src: Path,
    out: Path,
    version: Version,
    *,
    hours: int = 24,
    seed: int = 0,
    patients_per_shard: int = 1000,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert MIMIC-III or MIMIC-IV, demo or full, to a MEDS folder and return a summary.

    Predictions are made `hours` after admission to the unit. Memory is bounded by the size of a shard.

    Raises:
        UsageError: a core table is missing, a table is damaged or lacks a column, or `out` exists.
    """
    src, out = Path(src), Path(out)
    if not 1 <= hours < LONG_STAY_HOURS:
        raise UsageError(f"hours must be from 1 to {LONG_STAY_HOURS - 1}, before the stay is a long one; got {hours}")
    started = time.monotonic()
    found = find_tables(src, version)
    with new_folder(out, overwrite=overwrite) as folder:
        people = read_people(found, version)
        order = people.patients.sort("subject_id").select("subject_id")
        shards = order.with_columns(shard=pl.int_range(pl.len()) // patients_per_shard)
        source = _Source(found, version, people, shards)
        ledger: dict[str, Tally] = defaultdict(Tally)
        missing = _lay_tables(source, ledger, folder / "parts", progress)
        numbers = shards["shard"].unique().sort().to_list()
        events = write_shards(folder, numbers, ledger, _events, progress=progress)
        summary = _write_cohort(folder, people, hours, seed)
        summary |= {"codes": _write_knowledge(folder, source), "events": events, "missing_tables": missing}
        summary |= {"tables": plain(ledger)}
        write_ledger(folder / "reconciliation.csv", ledger)
        _write_about(folder, src, version, hours, summary)
        shutil.rmtree(folder / "parts")
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _lay_tables(source: _Source, ledger: dict[str, Tally], folder: Path, progress: bool) -> list[str]:
    """Lay the facts of all tables apart by shard; return the names of tables that are not there."""
    known = _known(source)
    for name, make in _CORE.items():
        rows = getattr(source.people, "stays" if name == "icustays" else name).height
        taken = ledger[name].take(make(source.people), source.shards)
        ledger[name].rows = rows
        lay_pieces_apart(name, iter([taken]), lambda piece: piece, source.shards, folder)
    tables = TABLES[source.version]
    others = [name for name in source.found if name not in {*_CORE, *(each.name for each in tables)}]
    with progress_bar("reading tables", len(tables) + len(others), enabled=progress) as advance:
        for table in tables:
            if table.name in source.found:
                _lay(table, source, known, ledger[table.name], folder)
            advance()
        for name in others:
            ledger[name].skip(_count(source.found[name]), NOT_TAKEN.get(name, UNKNOWN))
            advance()
    return [name for name in (*(each.name for each in tables), *DICTIONARIES) if name not in source.found]


def _lay(table: Table, source: _Source, known: Known, tally: Tally, folder: Path) -> None:
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


def _known(source: _Source) -> Known:
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
    return Known(admissions, visits, names, labs)


def _count(path: Path) -> int:
    return sum(piece.height for piece in read_pieces(path, {read_header(path)[0]: "text"}))


def _events(name: str, parts: Parts) -> pl.DataFrame | None:
    table = parts.read(name)
    if table is None or "code" not in table.columns:
        return None
    if "pharmacy_id" in table.columns:
        table = with_entry(table, parts)
    return table


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


def _write_about(folder: Path, src: Path, version: Version, hours: int, summary: dict[str, Any]) -> None:
    """Write what the data are, where they are from and on what terms."""
    terms = licence(src, version)
    write_dataset(folder, dataset_name=terms.name, dataset_version=terms.version, license=terms.licence)
    (folder / "README.md").write_text(readme(terms, version, hours, summary), encoding="utf-8")
    if terms.file is not None:
        shutil.copyfile(terms.file, folder / "LICENSE-DATA.txt")
