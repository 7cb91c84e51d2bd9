"""Checks of what makes the label: the codes that define it, and notes that are written when all is over."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
from scipy.stats import fisher_exact

from experiments.audit.evidence import Evidence
from experiments.audit.finding import SEVERITIES, Finding, Outcome, Skipped, rows_text

_DEATH = r"^MEDS_DEATH"
_LEAVES = r"(^|[_/])(DISCHARGE|DEATH)(/|$)"
_COMES = r"(^|[_/])ADMISSION(/|$)"
_LATE_NOTE = re.compile(r"discharge|death|autopsy|expir|mortality", re.IGNORECASE)
_HOUR = 3_600 * 1_000_000
_LATE_BY = 7 * 24 * _HOUR  # a summary may be signed this long after the stay it is about
_DEFINES, _LEAST = 0.9, 20  # difference of shares with which a later code makes the label; patients who must have it
_CHANCE = 1e-4
_NAMED = 3


def defining_codes(evidence: Evidence) -> Outcome:
    """No input is a code that makes the label: death itself, a code that later comes with one class, the label's name.

    A code that after the prediction comes with nearly all of one class and nearly none of the rest is taken to make
    the label. Where the same code is among the inputs and goes with that class too, the label is given away.
    """
    findings = list(_dead(evidence))
    defining = _defining(evidence)
    for name, code, with_class in defining:
        findings += _given_away(evidence, name, code, with_class)
    findings += _named_alike(evidence)
    names = ", ".join(sorted({code for _, code, _ in defining})[:_NAMED]) or "none found"
    return Outcome(f"{len(evidence.seen.names):,} codes; codes that make the label: {names}", findings)


def _dead(evidence: Evidence) -> Iterator[Finding]:
    seen = evidence.seen
    deaths = [place for place, name in enumerate(seen.names) if re.search(_DEATH, name)]
    owner = np.repeat(np.arange(len(seen.offsets) - 1), np.diff(seen.offsets))
    rows = np.unique(owner[np.isin(seen.codes, deaths)])
    if len(rows):
        what = f"{len(rows):,} rows are predicted after the patient's death"
        yield Finding("error", rows_text(rows), what, "predict the living, or at an earlier time")


def _defining(evidence: Evidence) -> list[tuple[str, str, bool]]:
    """Return (label, code, whether those who have the label have it) of codes that make the label, on training rows."""
    rows = evidence.sample
    cut = evidence.predictions[rows].select("row", "subject_id", "cut")
    later = evidence.timed.filter(~pl.col("note")).join(cut, on="subject_id").filter(pl.col("time") > pl.col("cut"))
    later = later.select("row", "code").unique()
    found = []
    for name, positive in evidence.classes(rows):
        if not 0 < positive.sum() < len(rows):
            continue
        labels = pl.DataFrame({"row": rows, "positive": positive})
        share = (
            later.join(labels, on="row")
            .group_by("code")
            .agg(
                n=pl.len(),
                hit=pl.col("positive").sum() / positive.sum(),
                miss=(~pl.col("positive")).sum() / (~positive).sum(),
            )
        )
        made = share.filter((pl.col("n") >= _LEAST) & ((pl.col("hit") - pl.col("miss")).abs() >= _DEFINES))
        found += [(name, code, hit > miss) for code, _, hit, miss in made.sort("code").iter_rows()]
    return found


def _given_away(evidence: Evidence, label: str, code: str, with_class: bool) -> Iterator[Finding]:
    seen, rows = evidence.seen, evidence.sample
    if code not in seen.names:
        return
    have = np.array([code in seen.events(row).codes for row in rows])
    if not have.any():
        return
    positive = next(mine for name, mine in evidence.classes(rows) if name == label) == with_class
    table = [[int((have & positive).sum()), int((have & ~positive).sum())]]
    table.append([int(positive.sum()) - table[0][0], int((~positive).sum()) - table[0][1]])
    telling = fisher_exact(table, alternative="greater").pvalue < _CHANCE
    of = f" of {label}" if label else ""
    what = f"{code}, which later makes the label{of}, is an input of {int(have.sum()):,} training rows, "
    if telling:
        what += f"{table[0][0]:,} of the class it makes"
        yield Finding("error", "codes", what, "date it when it became known, or leave it out")
    elif not re.search(_LEAVES, code):
        yield Finding("warning", "codes", what + "who have the label no more often", "see whether it is from before")


def _named_alike(evidence: Evidence) -> Iterator[Finding]:
    """Find codes that are called as the label is."""
    label = _letters(evidence.store.config.labels.rpartition("/")[2].removesuffix(".parquet"))
    alike = sorted(code for code in evidence.seen.names if len(label) > 4 and label in _letters(code))
    if alike:
        what = f"{len(alike)} codes are named as the label is: {', '.join(alike[:_NAMED])}"
        yield Finding("warning", "codes", what, "see whether the label was made from them")


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def late_notes(evidence: Evidence) -> Outcome:
    """No discharge summary or death note of a stay that is still going on is an input.

    It belongs to the stay that goes on if it is dated after the last admission, or, where no admission is recorded,
    not soon after the end of an earlier stay. Where no end of the stay is recorded, the note deserves a look.
    """
    notes = [note for note in evidence.seen.notes if _LATE_NOTE.search(note.kind)]
    if not evidence.seen.notes:
        raise Skipped("no notes")
    if not notes:
        return Outcome(f"{len(evidence.seen.notes):,} notes, none of discharge or death")
    day = 24 * _HOUR
    table = pl.DataFrame({"row": [note.row for note in notes], "days": [note.days for note in notes]})
    table = table.join(evidence.predictions, on="row").with_columns(
        written=pl.col("cut") - (pl.col("days") * day).cast(pl.Int64)
    )
    current = _of_current_stay(evidence, table)
    findings = []
    for severity in SEVERITIES:
        mine = current.filter(pl.col("goes_on") == (severity == "error"))
        if mine.height:
            stay = "that goes on" if severity == "error" else "whose end is not recorded"
            what = f"{mine.height:,} discharge or death notes of a stay {stay} are inputs"
            advice = "date them when they were signed, or leave their kind out"
            findings.append(Finding(severity, rows_text(mine["row"]), what, advice))
    return Outcome(f"{len(notes):,} notes of discharge or death before the prediction", findings)


def _of_current_stay(evidence: Evidence, table: pl.DataFrame) -> pl.DataFrame:
    """Return the notes that are of the stay in which the prediction is made, and whether its end is recorded later."""
    code = pl.col("code")
    marks = evidence.timed.filter(~pl.col("note") & (code.str.contains(_LEAVES) | code.str.contains(_COMES)))
    marks = marks.select("subject_id", "time", leaves=code.str.contains(_LEAVES))
    cuts = table.select("row", "subject_id", "cut").unique()
    joined = cuts.join(marks, on="subject_id", how="left")
    before, leaves = pl.col("time") <= pl.col("cut"), pl.col("leaves")
    stay = joined.group_by("row").agg(
        left=pl.col("time").filter(before & leaves).max(),
        came=pl.col("time").filter(before & ~leaves).max(),
        goes_on=(~before & leaves).any(),
    )
    soon = pl.col("written") <= pl.col("left") + _LATE_BY
    earlier = pl.when(pl.col("came").is_not_null()).then(pl.col("written") < pl.col("came") - _HOUR).otherwise(soon)
    over = pl.col("left").is_not_null() & (pl.col("left") >= pl.col("came"))
    mine = table.join(stay, on="row").with_columns(goes_on=pl.col("goes_on").fill_null(False))
    return mine.filter(~(earlier.fill_null(False) | (over.fill_null(False) & soon.fill_null(False))))
