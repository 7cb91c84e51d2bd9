"""Are the risks right? Curves, intercept and slope, errors, and what recalibration would change."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.clinical.evidence import Evidence, evidence, tuning_words
from experiments.clinical.pictures import Curve, calibration_png
from experiments.section import Picture, Section, Table
from experiments.statistics.calibration import bins_of, calibration, calibration_curve
from experiments.statistics.intervals import Interval
from experiments.statistics.recalibration import RECALIBRATIONS, Map

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.clinical.evidence import Rule
    from experiments.comparison import Row
    from experiments.sections import Findings

_SHOWN = ("intercept", "slope", "observed_expected", "ece", "ece_equal_mass", "brier")
_PARTS = ("reliability", "resolution", "uncertainty", "within_bins")
_HEADS = {
    "intercept": "intercept", "slope": "slope", "observed_expected": "observed / expected", "ece": "ECE",
    "ece_equal_mass": "ECE, equal mass", "brier": "Brier score", "reliability": "reliability (less is better)",
    "resolution": "resolution (more is better)", "uncertainty": "uncertainty", "within_bins": "within bins",
}  # fmt: skip


def calibration_section(findings: Findings) -> Section | None:
    """Return calibration for yes-or-no outcomes, of several labels each by itself; None for other tasks."""
    task = findings.stores[0].task
    if task.kind not in ("binary", "multilabel"):
        return None
    found, rows = evidence(findings), findings.comparison.ranking()
    if task.kind == "multilabel":
        shown = [row for row in rows if row.strategy in found.shown]
        labels = {name: found.label(place) for place, name in enumerate(task.names)}
        lines = [[name, *each] for name, mine in labels.items() for each in _numbers(mine, shown, parts=False)]
        heads = ["label", "strategy", *(_HEADS[name] for name in _SHOWN)]
        said = ["Labels are looked at one at a time, for the best strategy of each kind.", *_reading(found)]
        return Section("Are the risks right?", said, {"calibration": Table(heads, lines, _why(lines))})
    whole = _numbers(found, rows)
    lines = [line[: len(_SHOWN) + 1] for line in whole]
    parts = [[line[0], *line[len(_SHOWN) :]] for line in whole]
    heads = ["strategy", *(_HEADS[name] for name in _SHOWN)]
    words = [_verdict(found, {line[0]: line[2] for line in lines}), *_reading(found)]
    tables = {
        "calibration": Table(heads, lines, _why(lines)),
        "brier_parts": Table(["strategy", *(_HEADS[name] for name in ("brier", *_PARTS))], parts),
    }
    if found.tuning:
        words.append(f"Recalibration by temperature, Platt's method and isotonic regression was {tuning_words(found)}")
        tables["recalibration"] = _recalibrated(found)
    return Section("Are the risks right?", words, tables, {"calibration": _picture(found)})


def _numbers(found: Evidence, rows: list[Row], *, parts: bool = True) -> list[list[Any]]:
    wanted = calibration(bins_of(len(found.tested.target)))
    lines = []
    for row in rows:
        scores = found.mean(wanted, found.predictions[row.strategy])
        line: list[Any] = [row.label, *(scores[name].interval for name in _SHOWN)]
        lines.append([*line, *(scores[name].value for name in _PARTS)] if parts else line)
    return lines


def _recalibrated(found: Evidence) -> Table:
    """Compare each way to recalibrate with none, on the same resamples."""
    wanted, names = calibration(bins_of(len(found.tested.target))), ("ece", "brier", "log_loss")
    lines = []
    for strategy in found.tuning:
        before = found.mean(wanted, found.predictions[strategy])
        lines.append([found.shown[strategy], "none", *(c for name in names for c in (before[name].interval, ""))])
        for way, fit in RECALIBRATIONS.items():
            after = found.mean(wanted, found.fitted(strategy, _rule(fit)))
            cells = [c for name in names for c in (after[name].interval, after[name].minus(before[name]).interval)]
            lines.append([found.shown[strategy], way, *cells])
    heads = ["strategy", "recalibration"]
    heads += [each for name in ("ECE", "Brier score", "log loss") for each in (name, f"{name}, change")]
    note = "A change is after minus before on the same resampled patients; below zero is better."
    return Table(heads, lines, note)


def _rule(fit: Callable[[Any, Any], Map]) -> Rule:
    return lambda target, known, new: fit(target, known)(new)


def _picture(found: Evidence) -> Picture:
    bins = bins_of(len(found.tested.target))
    curves = []
    for strategy, label in found.shown.items():
        scores = found.mean(calibration_curve(bins), found.predictions[strategy])
        spans = [scores[f"share {i}"].interval for i in range(bins)]
        risks = [scores[f"risk {i}"].value for i in range(bins)]
        curves.append(Curve(label, risks, spans, found.predictions[strategy]))
    said = "; ".join(f"{each.label}: {_said(each)}" for each in curves)
    return Picture(calibration_png(curves), f"share of events by predicted risk with 95% bands: {said}")


def _said(curve: Curve) -> str:
    pairs = zip(curve.risks, curve.shares, strict=True)
    return ", ".join(f"{risk:.2f} to {span.value:.2f}" for risk, span in pairs if math.isfinite(span.value))


def _verdict(found: Evidence, slopes: dict[str, Interval]) -> str:
    return "; ".join(f"{label}: {_of_slope(slopes[label])}" for label in found.shown.values()) + "."


def _of_slope(slope: Interval) -> str:
    if not math.isfinite(slope.value):
        return "slope not defined"
    span = f"slope {slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f})"
    if slope.high < 1:
        return f"risks are too extreme, {span}"
    if slope.low > 1:
        return f"risks are too near to the average, {span}"
    return f"risks are not shown to be too extreme or too timid, {span}"


def _reading(found: Evidence) -> list[str]:
    bins = bins_of(len(found.tested.target))
    return [
        "A slope of 1 and an intercept of 0 (on the log odds; the intercept with the slope held at 1) are what right "
        "risks have; so is 1 of observed events for each expected. The Brier score is reliability - resolution + "
        f"uncertainty + what varies within bins. Bins are {bins} of equal mass but for the ECE without that word, "
        "whose ten are of equal width; the curve has bins and no smoother, because every point of it is then a share "
        "of patients who were counted, as many in each, and nothing is drawn where nobody is. Bands and intervals are "
        "over resampled patients, seeds averaged."
        + (
            " Rows of all folds are taken together, so ECE differs from the mean over folds above."
            if len(found.tuning_targets) > 1
            else ""
        )
    ]


def _why(lines: list[list[Any]]) -> str:
    undefined = any(isinstance(cell, Interval) and not math.isfinite(cell.value) for line in lines for cell in line)
    return (
        "Not defined: a slope or intercept where the risks separate events from others or are alike for everybody, a "
        "ratio where no event is expected."
        if undefined
        else ""
    )
