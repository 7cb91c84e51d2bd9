"""Checks of who is in which split: the same patient, the same record under another number, the same note or image."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from experiments.audit.evidence import Evidence
from experiments.audit.finding import SEVERITIES, Finding, Outcome, Skipped, rows_text
from experiments.audit.links import COMMON

SAME = 0.6  # share of the shorter record's telling events from which two records are one
_LONG = 200  # characters of a note below which equal texts happen by themselves


def apart(evidence: Evidence) -> Outcome:
    """No patient of the cohort is in two splits."""
    cohort = evidence.cohort
    pairs = pl.DataFrame({"subject": cohort.subject_ids, "split": cohort.split.tolist()}).with_row_index("row")
    both = pairs.filter(pl.col("split").n_unique().over("subject") > 1)
    measured = f"{pairs['subject'].n_unique():,} patients in {pairs['split'].n_unique()} splits"
    if not both.height:
        return Outcome(measured)
    what = f"{both['subject'].n_unique():,} patients have rows in more than one split"
    return Outcome(measured, [Finding("error", rows_text(both["row"]), what, "split by patient, never by row")])


def records(evidence: Evidence) -> Outcome:
    """No record is in two splits under two patient numbers, whole or nearly, also with all dates shifted."""
    pairs = evidence.links
    split = pl.DataFrame({"subject": evidence.cohort.subject_ids, "split": evidence.cohort.split.tolist()}).unique()
    for side in ("first", "second"):
        pairs = pairs.join(split.rename({"subject": side, "split": f"{side}_split"}), on=side)
    across = pairs.filter(pl.col("first_split") != pl.col("second_split"))
    findings = []
    for severity in SEVERITIES:
        mine = across.filter((pl.col("share") >= SAME) == (severity == "error"))
        if mine.height:
            subjects = pl.concat([mine["first"], mine["second"]]).unique().to_numpy()
            rows = np.flatnonzero(np.isin(evidence.cohort.subject_ids, subjects))
            many = "the same events" if severity == "error" else "many of the same events"
            most = float(mine["share"].to_numpy().max())
            what = f"{mine.height:,} pairs of patients have {many} under two numbers in two splits "
            what += f"(up to {most:.0%} of a record)"
            findings.append(Finding(severity, rows_text(rows), what, "give one person one subject_id, then split anew"))
    events = evidence.timed.height
    return Outcome(f"{events:,} events; {pairs.height:,} pairs of patients share many", findings)


def texts(evidence: Evidence) -> Outcome:
    """No long note is in two splits under two patient numbers; templates, which many have, do not count."""
    notes = [note for note in evidence.seen.notes if note.length >= _LONG]
    if not notes:
        raise Skipped(f"no notes of {_LONG} characters or more")
    across = _across(evidence, ((note.digest, note.row) for note in notes))
    measured = f"{len(notes):,} notes of {_LONG} characters or more"
    if not across:
        return Outcome(measured)
    what = f"{len(across):,} notes are in two splits, word for word"
    advice = "see whether they are one person's, or copied from a template"
    return Outcome(measured, [Finding("warning", rows_text(sorted(set().union(*across.values()))), what, advice)])


def files(evidence: Evidence) -> Outcome:
    """No image is in two splits under two patient numbers, byte for byte."""
    images = [image for image in evidence.seen.images if image.path.is_file()]
    if not images:
        raise Skipped("no images")
    sizes: dict[int, set[Path]] = defaultdict(set)
    for image in images:
        sizes[image.path.stat().st_size].add(image.path)
    # files of different sizes differ, so only those that share a size are read
    suspects = {path: _sha256(path) for paths in sizes.values() if len(paths) > 1 for path in paths}
    keys = ((suspects.get(image.path, str(image.path)), image.row) for image in images)
    across = _across(evidence, keys)
    measured = f"{len({image.path for image in images}):,} image files"
    if not across:
        return Outcome(measured)
    what = f"{len(across):,} images are in two splits under different patients"
    advice = "give one person one subject_id, then split anew"
    return Outcome(measured, [Finding("error", rows_text(sorted(set().union(*across.values()))), what, advice)])


def _across(evidence: Evidence, keyed: Iterable[tuple[Hashable, int]]) -> Mapping[Hashable, set[int]]:
    """Return the rows of each key that several patients have in several splits, though few patients have it."""
    cohort = evidence.cohort
    rows: dict[Hashable, set[int]] = defaultdict(set)
    for key, row in keyed:
        rows[key].add(row)
    found = {}
    for key, mine in rows.items():
        places = sorted(mine)
        patients = len(np.unique(cohort.subject_ids[places]))
        if 1 < patients <= COMMON and len(np.unique(cohort.split[places])) > 1:
            found[key] = mine
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
