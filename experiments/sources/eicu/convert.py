"""From the tables of eICU to a MEDS folder: patients in shards, memory bounded by the size of a shard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from experiments.data.folder import UNPREDICTABLE_FILE
from experiments.progress import progress_bar
from experiments.sources.conversion import Conversion, conversion
from experiments.sources.eicu import knowledge
from experiments.sources.eicu.clinical import CLINICAL
from experiments.sources.eicu.cohort import labels, unpredictable
from experiments.sources.eicu.drugs import DRUGS
from experiments.sources.eicu.measurements import HOURLY, MEASUREMENTS, read_yaib, yaib_events
from experiments.sources.eicu.notes import NOTES, history_notes
from experiments.sources.eicu.readme import licence, readme
from experiments.sources.eicu.reconciliation import Reconciliation, count_events
from experiments.sources.eicu.stays import dated, read_stays, stay_events, with_hospital
from experiments.sources.eicu.tables import Table, lay_apart, shards_of
from experiments.sources.folder import (
    split_by_group,
    write_codes,
    write_dataset,
    write_edges,
    write_events,
    write_json,
    write_labels,
    write_splits,
    write_table,
)
from experiments.sources.knowledge import describe, hierarchy
from experiments.sources.ledger import plain, write_ledger
from experiments.sources.tables import Parts, find_table, lay_pieces_apart
from fusion.component import UsageError

TABLES = (*CLINICAL, *DRUGS, *MEASUREMENTS, NOTES)
_RENAME = {"value": "numeric_value", "text": "text_value"}


class _Laid(NamedTuple):
    """Where the parts lie, what makes events of them, and what was counted on the way."""

    job: Conversion
    events: list[tuple[str, Callable[[Parts], pl.DataFrame]]]
    counts: Reconciliation
    missing: list[str]


def convert_eicu(
    src: Path,
    out: Path,
    *,
    yaib: Path | None = None,
    seed: int = 0,
    split_by: Literal["patient", "site"] = "patient",
    patients_per_shard: int = 1000,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Convert the eICU database, demo or full, to a MEDS folder and return a summary.

    Laboratory values and vital signs come from `yaib` (a folder with dyn.parquet) if given; else from the
    tables lab, vitalPeriodic and nurseCharting where there are any; else from `../yaib-demo/los/eicu_demo`
    beside `src`.
    Memory is bounded by the size of a shard, not of the database.

    Raises:
        UsageError: the patient table is missing, a table is damaged or lacks a column, or `out` exists.
    """
    src, out = Path(src), Path(out)
    if split_by not in ("patient", "site"):
        raise UsageError(f"split_by must be 'patient' or 'site'; got '{split_by}'")
    if not src.is_dir():
        raise UsageError(f"{src} is no folder; wanted one with the tables of eICU (patient.csv.gz, ...)")
    patient = find_table(src, "patient")
    if patient is None:
        raise UsageError(f"{src}: patient.csv or patient.csv.gz is missing; it is the one table that is needed")
    started = time.monotonic()
    yaib = _hourly(src, yaib)
    options = {"split_by": split_by, "seed": seed, "shard": patients_per_shard, "yaib": yaib}
    with conversion(out, _sources(src, yaib), options, overwrite=overwrite, progress=progress) as job:
        folder = job.folder
        stays = read_stays(patient, patients_per_shard)
        stays = with_hospital(stays, find_table(src, "hospital"))
        laid = _lay_tables(src, yaib, stays, job, progress)
        written = _write_shards(stays, laid, progress)
        codes = _write_knowledge(folder, laid)
        summary = _write_cohort(folder, stays, seed, split_by)
        ledger = laid.counts.ledger(written["events"])
        write_ledger(folder / "reconciliation.csv", ledger)
        summary |= written | {"codes": codes, "tables": plain(ledger), "missing_tables": laid.missing}
        _write_about(folder, src, summary)
    return summary | {"seconds": round(time.monotonic() - started, 1)}


def _hourly(src: Path, yaib: Path | None) -> Path | None:
    """Return where hourly values are taken from: what was given, else what lies beside where no table has them."""
    beside = src.parent / "yaib-demo" / "los" / "eicu_demo"
    tables = any(find_table(src, table.name) for table in HOURLY)
    return beside if yaib is None and not tables and beside.is_dir() else yaib


def _sources(src: Path, yaib: Path | None) -> list[Path]:
    wanted = ("patient", "hospital", *(table.name for table in (*TABLES, *HOURLY)))
    files = [path for name in wanted if (path := find_table(src, name)) is not None]
    return files if yaib is None else [*files, *sorted(yaib.glob("*.parquet"))]


def _lay_tables(src: Path, yaib: Path | None, stays: pl.DataFrame, job: Conversion, progress: bool) -> _Laid:
    """Lay the rows of all tables apart by shard; tables that are not there are named, not an error."""
    wanted: tuple[Table, ...] = TABLES if yaib is not None else (*TABLES, *HOURLY)
    laid = _Laid(job, [("pastHistory", history_notes)], Reconciliation(), [])
    laid.counts.laid["patient"] = {"rows": stays.height, "kept": stays.height}
    with progress_bar("reading tables", len(wanted), enabled=progress) as advance:
        for table in wanted:
            path = find_table(src, table.name)
            if path is None:
                laid.missing.append(table.name)
            else:
                lay = partial(lay_apart, table, path, stays, job.parts)
                laid.counts.laid[table.name] = job.steps.once(f"table {table.name}", lay)
                laid.events.append((table.name, table.events))
            advance()
    others = ("hospital", *(table.name for table in HOURLY if table not in wanted))
    laid.missing.extend(name for name in others if find_table(src, name) is None)
    if yaib is not None:
        pieces, shards = read_yaib(yaib), shards_of(stays)
        lay = partial(lay_pieces_apart, "yaib", pieces, lambda piece: piece, shards, job.parts)
        laid.counts.laid["yaib"] = job.steps.once("table yaib", lay)
        laid.events.append(("yaib", yaib_events))
    laid.counts.see_unread(src, laid.counts.laid)
    return laid


def _write_shards(stays: pl.DataFrame, laid: _Laid, progress: bool) -> dict[str, int]:
    """Make events of the parts of each shard and write them."""
    counts = {"events": 0, "events_out_of_time": 0}
    shards = stays["shard"].unique().sort().to_list()
    with progress_bar("writing shards", len(shards), enabled=progress) as advance:
        for shard in shards:
            mine = stays.filter(pl.col("shard") == shard)
            events, seen = laid.job.steps.once(f"shard {shard}", partial(_write_shard, shard, mine, laid))
            for name, count in seen:
                laid.counts.see(name, count)
                counts["events_out_of_time"] += count["late"]
            counts["events"] += events
            advance()
    return counts


def _write_shard(shard: int, stays: pl.DataFrame, laid: _Laid) -> tuple[int, list[tuple[str, dict[str, int]]]]:
    """Write a shard; return the number of its events, and what was seen of each table in it."""
    parts, frames = Parts(laid.job.parts / f"{shard:05d}"), [stay_events(stays)]
    seen = [("patient", count_events(frames[0], 0))]
    for name, events in laid.events:
        table, late = dated(events(parts), stays)
        seen.append((name, count_events(table, late)))
        frames.append(table.rename({old: new for old, new in _RENAME.items() if old in table.columns}))
    everything = pl.concat(frames, how="diagonal_relaxed")
    return write_events(laid.job.folder, shard, everything, extra=("site",)), seen


def _write_knowledge(folder: Path, laid: _Laid) -> int:
    """Write the codes with their ancestors, and the edges from diagnosis paths to ICD codes."""
    files = sorted((folder / "data").glob("*.parquet"))
    used = {code for file in files for code in pl.read_parquet(file, columns=["code"])["code"].unique()}
    edges = knowledge.coded_as(laid.job.parts)
    write_edges(folder, edges)
    parents = hierarchy({*used, *edges["head"].to_list(), *edges["tail"].to_list()})
    return write_codes(folder, parents, describe(parents, knowledge.drug_names(laid.job.parts)), parents)


def _write_cohort(folder: Path, stays: pl.DataFrame, seed: int, split_by: str) -> dict[str, Any]:
    """Write labels, their flow and the splits."""
    flow = {}
    for label in labels(stays):
        write_labels(folder, label.name, label.rows)
        flow[label.name] = label.steps
    write_json(folder / "cohort.json", {"labels": flow})
    write_table(unpredictable(stays), folder / UNPREDICTABLE_FILE)
    first = stays.sort("subject_id", "admitted", "stay").group_by("subject_id", maintain_order=True)
    groups = first.agg(site=pl.col("site").first()).select(
        "subject_id", group="subject_id" if split_by == "patient" else "site"
    )
    return {
        "patients": stays["subject_id"].n_unique(),
        "hospital_stays": stays["patienthealthsystemstayid"].n_unique(),
        "unit_stays": stays.height,
        "hospitals": stays["site"].n_unique(),
        "died_in_hospital": int((stays["hospitaldischargestatus"] == "Expired").sum()),
        "labels": flow,
        "splits": write_splits(folder, split_by_group(groups, seed)),
    }


def _write_about(folder: Path, src: Path, summary: dict[str, Any]) -> None:
    """Write what the data are, where they are from and on what terms."""
    terms = licence(src)
    write_dataset(
        folder,
        dataset_name=terms.name,
        dataset_version=terms.version,
        license=terms.licence,
        site_id_columns=["site"],
    )
    (folder / "README.md").write_text(readme(terms, summary), encoding="utf-8")
    if terms.file is not None:
        shutil.copyfile(terms.file, folder / "LICENSE-DATA.txt")
