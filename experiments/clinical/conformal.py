"""Sets that hold the truth nine times of ten: how often they do, and how large they must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.clinical.evidence import SHARES, Evidence, evidence, tuning_words
from experiments.section import Section, Table
from experiments.statistics.conformal import OF_INTERVALS, class_sets, coverage_by_chance, intervals_around, of_sets

if TYPE_CHECKING:
    from experiments.clinical.evidence import Rule
    from experiments.sections import Findings

Array = NDArray[Any]
LEVEL = 0.9
_WAYS = {"all patients together": False, "by class": True}
_TITLE = "How sure can one be of a single patient?"


def conformal_section(findings: Findings) -> Section | None:
    """Return conformal sets of classes or intervals; None for several labels, or without tuning predictions."""
    task = findings.stores[0].task
    if task.kind == "multilabel":
        return None
    found = evidence(findings)
    if not found.tuning:
        return None
    if task.kind == "regression":
        widths = _intervals(found)
        return Section(_TITLE, [_verdict(widths), *_words(found, "interval")], {"conformal": widths})
    names = ("no event", "event") if task.kind == "binary" else task.names
    sets, classes = _sets(found, names)
    return Section(_TITLE, [_verdict(sets), *_words(found, "set")], {"conformal": sets, "conformal_classes": classes})


def _verdict(table: Table) -> str:
    """Say how often the truth is held, and by what."""
    place = 2 if len(table.heads) > 3 else 1
    said = [
        f"{', '.join(row[:place])}: truth held in {row[place].value:.1%} ({row[place].low:.1%} to "
        f"{row[place].high:.1%}), {table.heads[place + 1]} {row[place + 1].value:.3g}"
        for row in table.rows[:: len(_WAYS) if place > 1 else 1]
    ]
    return f"{'; '.join(said)}."


def _words(found: Evidence, what: str) -> list[str]:
    low, high = coverage_by_chance(min(len(each) for each in found.tuning_targets), LEVEL)
    patients, rows = (len(each) for each in (np.unique(found.tested.subject_ids), found.tested.subject_ids))
    several = (
        "" if patients == rows else " Patients with several rows are not exchangeable row by row: read it as a guide."
    )
    return [
        f"Split conformal prediction: every patient gets {'a set of classes' if what == 'set' else 'an interval'} that "
        f"shall hold the truth in {LEVEL:.0%} of patients, {tuning_words(found)} Coverage can therefore fall somewhat "
        f"short. So few patients to calibrate on make the true coverage itself vary, between {low:.1%} and {high:.1%} "
        f"in 95 of 100 draws of them; the intervals below are about held-out patients only.{several}"
    ]


def _sets(found: Evidence, names: tuple[str, ...]) -> tuple[Table, Table]:
    """Return what sets are like, and how often they hold the truth of each class."""
    wanted = of_sets(len(names))
    sizes = ("empty", "single", "double") if len(names) == 2 else ("empty", "single", "double", "more")
    lines, by_class = [], []
    for strategy in found.tuning:
        for way, apart in _WAYS.items():
            scores = found.mean(wanted, found.fitted(strategy, _rule(by_class=apart)))
            cells = [scores[name].interval for name in ("coverage", "size", *sizes)]
            lines.append([found.shown[strategy], way, *cells])
            for k, name in enumerate(names):
                count = int((found.tested.target == k).sum())
                by_class.append([found.shown[strategy], way, name, count, scores[f"class {k}"].interval])
    note = f"An empty set says that no class fits, one with all classes that none can be excluded. {SHARES}"
    heads = ["strategy", "calibrated on", "coverage", "mean size", *(f"share {name}" for name in sizes)]
    why = "Nothing is defined for a class without held-out rows."
    other = Table(["strategy", "calibrated on", "class", "held-out rows", "coverage"], by_class, why)
    return Table(heads, lines, note), other


def _rule(*, by_class: bool) -> Rule:
    def sets(target: Array, known: Array, new: Array) -> Array:
        return class_sets(target.astype(np.int64), _both(known), _both(new), LEVEL, by_class=by_class)

    return sets


def _both(prediction: Array) -> Array:
    """Return a column a class, also of one risk. Shape: (N,) or (N, K) -> (N, K)."""
    return prediction if prediction.ndim == 2 else np.stack([1 - prediction, prediction], axis=1)


def _intervals(found: Evidence) -> Table:
    lines = []
    for strategy in found.tuning:
        bounds = found.fitted(
            strategy, lambda target, known, new: intervals_around(target, known.astype(np.float64), new, LEVEL)
        )
        scores = found.mean(OF_INTERVALS, bounds)
        lines.append([found.shown[strategy], scores["coverage"].interval, scores["width"].interval])
    note = "Widths are in the target's unit, alike for everybody; under 9 tuning rows they have no bound."
    return Table(["strategy", "coverage", "width"], lines, note)
