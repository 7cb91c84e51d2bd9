"""Does it hold at another site? Strategies on patients of a data folder that nothing was trained or tuned on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.clinical.evidence import shown_rows
from experiments.evaluate import squeeze_outputs
from experiments.metrics import METRICS, Metric, metric_name
from experiments.scoring import Score, Tested, mean_score
from experiments.section import Section, Table
from experiments.statistics.calibration import bins_of, calibration
from experiments.statistics.intervals import Interval, interval

if TYPE_CHECKING:
    from experiments.comparison import Row
    from experiments.sections import Findings

Array = NDArray[Any]
_APART = 1_000_003  # keeps the resamples of the other site apart from those of this one
_CALIBRATION = {
    "intercept": "intercept",
    "slope": "slope",
    "observed_expected": "observed / expected",
    "brier": "Brier",
}


@dataclass(frozen=True)
class Elsewhere:
    """What every run of each strategy predicts for the patients of another site, and what these are.

    Args:
        runs: of each strategy, by seed and fold. Shape: (N,) or (N, K) each.
        left_out: strategies whose predictions there are not finite.
    """

    tested: Tested
    runs: Mapping[str, Sequence[Array]]
    left_out: Sequence[str]

    def scores(self, metric: Metric) -> dict[str, Score]:
        """Return the metric of each strategy, the mean over its runs."""
        return {
            name: mean_score([self.tested.score([metric], each)[metric.name] for each in runs])
            for name, runs in self.runs.items()
        }


def external_section(findings: Findings) -> Section | None:
    """Return the part on another site; None where none was named."""
    if findings.external is None:
        return None
    there, metric = elsewhere(findings), METRICS[findings.comparison.metric]
    scores, here = there.scores(metric), findings.tested()
    lines: list[list[Any]] = []
    drops: dict[str, Interval] = {}
    for row in findings.comparison.ranking():
        if row.strategy not in scores:
            continue
        predictions = findings.held_out.predictions[row.strategy]
        internal = mean_score([here.score([metric], each)[metric.name] for each in predictions])
        drops[row.strategy] = _apart(scores[row.strategy], internal)
        outside = scores[row.strategy].interval
        lines.append([row.label, internal.interval, outside, drops[row.strategy], _shown(drops[row.strategy])])
    name = metric_name(metric.name)
    heads = ["strategy", f"{name}, this site", "other site", "other minus this", "shown?"]
    undefined = any(math.isnan(line[2].value) for line in lines)
    why = "Not defined: the patients there have one class only." if undefined else ""
    tables = {"external": Table(heads, lines, why), "external_differences": _pairs(findings, scores, name)}
    if findings.stores[0].task.kind == "binary":
        tables["external_calibration"] = _calibrated(there, shown_rows(findings.comparison))
    words = [_verdict(findings, scores, drops, name), _patients(findings), _READING]
    if there.left_out:
        words.append(f"Left out, for predictions that are not finite there: {', '.join(there.left_out)}.")
    return Section("At another site", words, tables)


_READING = (
    "The models of every fold and seed, as they were trained here, predict all labelled patients of the other folder; "
    "preparations, thresholds and calibration are not fitted again. Intervals are over patients, runs averaged; those "
    "of the difference come from independent resamples of both sites, because no patient is at both. A difference is "
    "one of patients as well as of models: who is easier to predict there scores higher. Fewer codes that training "
    "knows also lower a score."
)


def elsewhere(findings: Findings) -> Elsewhere:
    """Collect what runs predicted for the other site."""
    store, held_out, compare = findings.external, findings.held_out, findings.config.compare
    assert store is not None
    found: dict[str, list[Array]] = {}
    left_out = []
    for name in held_out.files:
        seeds = held_out.arrays(name, "external")
        runs = [squeeze_outputs(store.task, each) for folds in seeds or () for each in folds]
        if runs and all(np.isfinite(each).all() for each in runs):
            found[name] = runs
        else:
            left_out.append(name)
    tested = Tested.of(
        store.cohort.targets,
        store.cohort.subject_ids,
        resamples=compare.resamples,
        seed=findings.config.seed + _APART,
        bca=compare.interval == "bca",
    )
    return Elsewhere(tested, found, left_out)


def _apart(first: Score, second: Score) -> Interval:
    """Return the difference of scores on other patients, each with its own resamples."""
    return interval(first.value - second.value, first.distribution - second.distribution)


def _shown(span: Interval) -> str:
    if not math.isfinite(span.low):
        return "not defined"
    return "yes" if span.low > 0 or span.high < 0 else "no difference shown"


def _pairs(findings: Findings, scores: Mapping[str, Score], name: str) -> Table:
    """Return whether the differences that were found here are found there too."""
    lines = []
    for each in findings.comparison.differences:
        if each.first not in scores or each.second not in scores:
            continue
        there = scores[each.first].minus(scores[each.second]).interval
        here = Interval(each.value, each.low, each.high)
        lines.append([each.first, each.second, here, there, _holds(here, there)])
    note = (
        "First minus second on the same resampled patients of a site. Who leads was seen at this site only, so what "
        "the other shows is not flattered by the choice. Intervals are not adjusted for their number."
    )
    return Table(["first", "second", f"difference in {name}, this site", "other site", "holds there?"], lines, note)


def _holds(here: Interval, there: Interval) -> str:
    if _shown(there) != "yes":
        return _shown(there)
    if _shown(here) != "yes":
        return "shown there only"
    return "yes" if there.value * here.value > 0 else "the other way round"


def _calibrated(there: Elsewhere, rows: Sequence[Row]) -> Table:
    """Return how right the risks are at the other site, of the best strategy of each kind."""
    wanted = calibration(bins_of(len(there.tested.target)))
    lines = []
    for row in rows:
        runs = [there.tested.quantities(wanted, each) for each in there.runs.get(row.strategy, ())]
        if runs:
            lines.append([row.label, *(mean_score([each[name] for each in runs]).interval for name in _CALIBRATION)])
    note = "Of risks as the models give them: 1 is right for a slope and for observed / expected, 0 for an intercept."
    return Table(["strategy", *_CALIBRATION.values()], lines, note)


def _verdict(findings: Findings, scores: Mapping[str, Score], drops: Mapping[str, Interval], name: str) -> str:
    """Say what the strategy that led here does there, and how many strategies are shown to differ."""
    leads = next((row for row in findings.comparison.ranking() if row.strategy in scores), None)
    if leads is None:
        return "No strategy has finite predictions there."
    span, drop = scores[leads.strategy].interval, drops[leads.strategy]
    if not math.isfinite(span.value):
        return f"{name} is not defined at the other site: its patients have one class only."
    differ = sum(_shown(each) == "yes" for each in drops.values())
    return (
        f"{leads.label}, the best here, has {name} {span.value:.3f} ({span.low:.3f} to {span.high:.3f}) there, "
        f"{drop.value:+.3f} ({drop.low:+.3f} to {drop.high:+.3f}) from here: "
        f"{'a difference is shown' if _shown(drop) == 'yes' else _shown(drop)}. {differ} of {len(drops)} strategies "
        "are shown to differ between the sites."
    )


def _patients(findings: Findings) -> str:
    """Say who is at the other site, and that nobody is at both."""
    store, held_out = findings.external, findings.held_out
    assert store is not None
    cohort = store.cohort
    said = f"The other site is {store.dataset.folder.name}: {len(np.unique(cohort.subject_ids)):,} patients"
    said += f", {len(cohort.targets):,} predictions"
    if store.task.kind == "binary":
        said += f", the event in {cohort.targets.mean():.1%} of them against {held_out.target.mean():.1%} here"
    elif store.task.kind == "regression":
        said += f", values {cohort.targets.mean():.3g} on average against {held_out.target.mean():.3g} here"
    audited = findings.comparison.about.get("external")
    return f"{said}. {str(audited).capitalize()}." if audited else f"{said}."
