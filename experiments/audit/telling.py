"""Checks of what says the label too well by itself: one code, value, word or amount; who has which modality."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from encoders.records import CodeEvents
from experiments.audit.evidence import Evidence, Seen
from experiments.audit.finding import SEVERITIES, Finding, Outcome, Skipped
from experiments.data.suspicions import Telling, telling_features

_MANY = 0.2  # share of a class that must have what nobody else has before that is an error
_PATTERN = 0.65  # AUROC of who has which modality from which it deserves a look
_NAMED = 3  # features that are named


def features(evidence: Evidence) -> Outcome:
    """No single code, value, word or amount of data tells the label on training patients nearly without error.

    A feature that almost separates the classes is an error, and so is one that many of a class have and nobody else; a
    rare one of that kind deserves a look.
    """
    seen, rows = evidence.seen, evidence.sample
    records = {
        "codes": [seen.events(row) for row in rows],
        "amounts": list(_amounts(seen, rows)),
        "words": [_as_events(sorted(seen.words.get(row, ()))) for row in rows],
    }
    kinds = len({code for each in records["words"] for code in each.codes})
    findings: list[Finding] = []
    for name, positive in evidence.classes(rows):
        for kind, each in records.items():
            findings += _findings(kind, telling_features(each, positive), name)
    return Outcome(f"{len(rows):,} training rows: {len(seen.names):,} codes, {kinds:,} words, 5 amounts", findings)


def _findings(kind: str, telling: list[Telling], label: str) -> Iterator[Finding]:
    of = f" of {label}" if label else ""
    for severity in SEVERITIES:
        mine = [each for each in telling if (each.exact or each.share >= _MANY) == (severity == "error")]
        if not mine:
            continue
        # a word of a note stays in the data folder: it may be a name
        shown = [f"{each.code} ({each.why})" for each in mine[:_NAMED]] if kind != "words" else [mine[0].why]
        more = f" and {len(mine) - len(shown)} more" if len(mine) > len(shown) else ""
        what = f"{len(mine)} {kind} tell the label{of}: {'; '.join(shown)}{more}"
        advice = (
            "leave it out, or predict at an earlier time" if severity == "error" else "see whether it is known then"
        )
        yield Finding(severity, kind, what, advice)


def _amounts(seen: Seen, rows: NDArray[np.int64]) -> Iterator[CodeEvents]:
    """How much there is of each patient, as values: what was collected more of who had the outcome gives it away."""
    notes = np.bincount([note.row for note in seen.notes], minlength=len(seen.offsets))
    texts = np.bincount(
        [note.row for note in seen.notes], [note.length for note in seen.notes], minlength=len(seen.offsets)
    )
    images = np.bincount([image.row for image in seen.images], minlength=len(seen.offsets))
    names = ("number of coded events", "number of notes", "characters of notes", "number of images", "days of history")
    for row in rows:
        days = seen.events(row).days
        values = [len(days), notes[row], texts[row], images[row], days.max(initial=0.0)]
        yield CodeEvents(names, np.zeros(len(names), np.float32), np.array(values, np.float32))


def _as_events(words: list[str]) -> CodeEvents:
    return CodeEvents(words, np.zeros(len(words), np.float32), np.full(len(words), np.nan, np.float32))


def availability(evidence: Evidence) -> Outcome:
    """Who has codes, notes and images at all does not say much about the label.

    Missing for a reason that has to do with the outcome is common and no leak by itself; but a model may then live on
    how care is recorded.
    """
    rows = evidence.cohort.rows("train")
    pattern = evidence.seen.present()[rows] @ np.array([1, 2, 4])
    worst, label = 0.5, ""
    for name, positive in evidence.classes(rows):
        if 0 < positive.sum() < len(rows):
            share = np.bincount(pattern, positive, 8) / np.maximum(np.bincount(pattern, minlength=8), 1)
            worst, label = max((worst, label), (float(roc_auc_score(positive, share[pattern])), name))
    if len(np.unique(pattern)) < 2:
        raise Skipped("every patient has the same modalities")
    measured = f"AUROC {worst:.3f} of who has which modality, on {len(rows):,} training rows"
    if worst < _PATTERN:
        return Outcome(measured)
    of = f" of {label}" if label else ""
    what = f"who has which modality tells the label{of} with an AUROC of {worst:.3f}"
    advice = "ask why data are missing; compare with missing modalities removed at random"
    return Outcome(measured, [Finding("warning", "modalities", what, advice)])
