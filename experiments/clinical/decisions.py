"""Is acting on the risks worth it? Decision curves, and alerts at thresholds chosen on tuning patients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.clinical.evidence import SHARES, Evidence, evidence, tuning_words
from experiments.clinical.pictures import Worth, decision_png
from experiments.section import Picture, Section, Table
from experiments.statistics.decisions import ALERTS, at_sensitivity, at_specificity, net_benefit
from experiments.statistics.intervals import Interval

if TYPE_CHECKING:
    from experiments.clinical.evidence import Rule
    from experiments.sections import Findings

Array = NDArray[Any]
_SHARES = (0.8, 0.9, 0.95)
_CHOICES = {"sensitivity": at_sensitivity, "specificity": at_specificity}
_STEPS = 60
_ROWS = 5  # of the table of net benefit


def decisions_section(findings: Findings) -> Section | None:
    """Return what acting is worth, for binary outcomes; None for other tasks."""
    if findings.stores[0].task.kind != "binary":
        return None
    found = evidence(findings)
    thresholds = _thresholds(found)
    curves, everybody, table, useful = _worth(found, thresholds)
    words = [
        f"Worth more than treating everybody and nobody, each threshold by itself: {useful}.",
        "Net benefit is the share of patients with the event who are treated, less the share treated needlessly, each "
        "of these weighed by the odds of the threshold: whoever treats from a risk of 10% on holds one event found for "
        "worth nine needless treatments. A model is of use at a threshold where its curve is above treating everybody "
        "and above treating nobody, which is 0. Bands are over resampled patients, seeds averaged.",
    ]
    tables = {"net_benefit": table}
    if found.tuning:
        words.append(f"Thresholds of alerts were {tuning_words(found)}")
        tables["alerts"] = _alerts(found)
    said = "; ".join(f"{each.label}: {_said(each, thresholds)}" for each in curves)
    picture = Picture(decision_png(thresholds, curves, everybody), f"net benefit by threshold: {said}")
    return Section("Is acting on the risks worth it?", words, tables, {"decision_curve": picture})


def _thresholds(found: Evidence) -> Array:
    """Return thresholds up to what one in a hundred patients exceeds by the boldest strategy shown. Shape: (60,)."""
    highest = max(float(np.quantile(found.predictions[name][0], 0.99)) for name in found.shown)
    return np.linspace(0.01, min(0.99, max(0.05, highest)), _STEPS)


def _worth(found: Evidence, thresholds: Array) -> tuple[list[Worth], list[float], Table, str]:
    """Return the curves, that of treating everybody, a table of a few thresholds, and where models are of use."""
    wanted, curves, lines, everybody = net_benefit(thresholds), [], [], [float("nan")] * len(thresholds)
    useful = []
    places = np.linspace(0, len(thresholds) - 1, _ROWS + 1).astype(int)[:-1] + len(thresholds) // (2 * _ROWS)
    for strategy, label in found.shown.items():
        scores = found.mean(wanted, found.predictions[strategy])
        curves.append(Worth(label, [scores[f"model {i}"].interval for i in range(len(thresholds))]))
        everybody = [scores[f"all {i}"].value for i in range(len(thresholds))]
        gains = [scores[f"gain {i}"].interval.low > 0 for i in range(len(thresholds))]
        useful.append(f"{label} {_where(thresholds[gains])}")
        for i in places:
            cells = [scores[f"{name} {i}"].interval for name in ("model", "all", "gain")]
            lines.append([label, float(thresholds[i]), *cells])
    note = "Gain: beyond the better of treating everybody and nobody, on the same resampled patients."
    heads = ["strategy", "threshold", "net benefit", "treating everybody", "gain"]
    return curves, everybody, Table(heads, lines, note), "; ".join(useful)


def _where(shown: Array) -> str:
    """Say at which thresholds a gain is shown."""
    if not len(shown):
        return "at no threshold shown"
    return f"at {len(shown)} of {_STEPS} thresholds, the lowest {shown[0]:.0%} and the highest {shown[-1]:.0%}"


def _alerts(found: Evidence) -> Table:
    """Return what happens at thresholds that reach a sensitivity or specificity among tuning patients."""
    per = "patients" if len(np.unique(found.tested.subject_ids)) == len(found.tested.subject_ids) else "predictions"
    lines = []
    for strategy in found.tuning:
        for kind in _CHOICES:
            for share in _SHARES:
                limits = found.fitted(strategy, _limit(kind, share))
                alerts = [p >= limit for p, limit in zip(found.predictions[strategy], limits, strict=True)]
                scores = found.mean(ALERTS, alerts)
                cells = [scores[name].interval for name in ("sensitivity", "specificity", "ppv", "npv")]
                chosen = [found.shown[strategy], f"{kind} {share:.0%}", float(np.mean(limits))]
                lines.append([*chosen, *cells, _inverse(cells[2]), scores["alerts_per_100"].interval])
    heads = ["strategy", "chosen for", "threshold", "sensitivity", "specificity", "PPV", "NPV", "alerts per true case"]
    note = (
        "The threshold is the mean over runs. PPV is not defined where a run raises no alert (nor NPV where it raises "
        "one for everybody); alerts per true case are 1 / PPV, without bound where no alert is true. " + SHARES
    )
    return Table([*heads, f"alerts per 100 {per}"], lines, note)


def _limit(kind: str, share: float) -> Rule:
    """Return the threshold for each new row, which the predictions of the new rows have no part in."""
    return lambda target, known, new: np.full(len(new), _CHOICES[kind](target, known, share))


def _inverse(span: Interval) -> Interval:
    """Return the interval of 1 / x."""
    value, high, low = (1 / each if each > 0 else math.inf for each in (span.value, span.low, span.high))
    return Interval(value, low, high) if math.isfinite(span.value) else span


def _said(curve: Worth, thresholds: Array) -> str:
    places = range(0, len(thresholds), len(thresholds) // 4)
    return ", ".join(f"{curve.spans[i].value:+.3f} at {thresholds[i]:.0%}" for i in places)
