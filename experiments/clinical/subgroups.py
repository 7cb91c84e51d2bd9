"""Does it work for everybody? Scores and calibration by group of patients, and the gaps between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.clinical.evidence import Evidence, evidence
from experiments.clinical.groups import Group, LeftOut, attributes, worth_scoring
from experiments.clinical.pictures import groups_png
from experiments.metrics import METRICS, Metric, metric_name
from experiments.scoring import Score, Tested, mean_score
from experiments.section import Picture, Section, Table
from experiments.statistics.calibration import bins_of, calibration
from experiments.statistics.intervals import Interval, interval, two_sided_p
from experiments.statistics.multiple import holm
from experiments.subgroups import LEAST, LEAST_CASES

if TYPE_CHECKING:
    from experiments.sections import Findings

Array = NDArray[Any]
_PRECISION = {"binary": "auprc", "multilabel": "auprc_macro"}
_CALIBRATION = {"observed_expected": "observed / expected", "ece_equal_mass": "ECE, equal mass"}


class Against(NamedTuple):
    """What a strategy scores in a group minus what it scores in all others."""

    strategy: str
    group: Group
    span: Interval
    p: float


def subgroups_section(findings: Findings) -> Section | None:
    """Return the scores of each group; None where the data know no groups."""
    store, metric = findings.stores[0], METRICS[findings.comparison.metric]
    groups, left_out = worth_scoring(store, findings.held_out.rows, attributes(findings))
    if not groups and not left_out:
        return None
    return report(evidence(findings), groups, left_out, metric, store.task.kind)


def report(found: Evidence, groups: Sequence[Group], left_out: Sequence[LeftOut], metric: Metric, kind: str) -> Section:
    """Return the section on groups.

    Args:
        kind: of task.
    """
    name = metric_name(metric.name)
    everybody = Group("everybody", "everybody", np.ones(len(found.tested.target), np.bool_), rest=False)
    table, scores = _scored(found, [everybody, *groups], metric, kind)
    against, gaps = _against_rest(found, groups, metric, scores), _gaps(found, groups, metric, scores)
    tables = {"subgroups": table} if groups else {}
    if gaps.rows:
        tables["subgroups_gaps"] = gaps
    if against:
        tables["subgroups_against_rest"] = _rest_table(found, against, name)
    if left_out:
        note = (
            f"A group needs {LEAST} patients, {LEAST_CASES} of whom have another class than the most frequent one; so "
            "do the others it is held against. With only one class no score is defined."
        )
        tables["subgroups_left_out"] = Table(["groups by", "group", "patients", "why"], left_out, note)
    words = [_verdict(found, groups, against, name), _READING]
    pictures = {"subgroups": _picture(found, table, scores, name)} if groups else {}
    return Section("Does it work for everybody?", words, tables, pictures)


_READING = (
    "Who is in a group is what was known at the prediction: kinds of records, age, and codes of sex, ethnicity and "
    "region or those that compare.subgroups names. A group may do worse because its patients are harder to predict "
    "(or lack records), not only because the model serves them badly; observed / expected tells whether its risks are "
    "right on average. AUPRC also hangs on how common the event is in a group. With folds, ranks are scored within "
    "each fold in which the group has both outcomes."
)


def _scored(
    found: Evidence, groups: Sequence[Group], metric: Metric, kind: str
) -> tuple[Table, dict[str, list[Score]]]:
    """Return the table of groups, and the metric of each group by strategy."""
    binary = kind == "binary"
    wanted = [metric] + [METRICS[each] for k, each in _PRECISION.items() if k == kind and each != metric.name]
    scores: dict[str, list[Score]] = {}
    lines = []
    for group in groups:
        places = np.flatnonzero(group.members)
        tested = found.tested.among(places)
        who = [group.attribute, group.name, len(np.unique(tested.subject_ids))]
        who += [int(tested.target.sum())] if binary else []
        for strategy, label in found.shown.items():
            mine = [tested.score(wanted, each[places]) for each in found.predictions[strategy]]
            means = [_mean([each[m.name] for each in mine]) for m in wanted]
            scores.setdefault(group.name, []).append(means[0])
            calibrated = _calibrated(tested, found, strategy, places) if binary else []
            lines.append([*who, label, *(each.interval for each in means), *calibrated])
    heads = ["groups by", "group", "patients", *(["events"] if binary else []), "strategy"]
    heads += [metric_name(each.name) for each in wanted] + (list(_CALIBRATION.values()) if binary else [])
    return Table(heads, lines, _undefined(lines)), scores


def _mean(scores: Sequence[Score]) -> Score:
    """Return the mean over seeds, of the folds in which it is defined."""
    mean = mean_score(scores)
    defined = mean.folds[np.isfinite(mean.folds)]
    return mean._replace(folds=defined if len(defined) else np.array([np.nan]))


def _calibrated(tested: Tested, found: Evidence, strategy: str, places: Array) -> list[Interval]:
    wanted = calibration(bins_of(len(places)))
    by_seed = [tested.quantities(wanted, each[places]) for each in found.predictions[strategy]]
    return [mean_score([each[name] for each in by_seed]).interval for name in _CALIBRATION]


def _against_rest(
    found: Evidence, groups: Sequence[Group], metric: Metric, scores: Mapping[str, Sequence[Score]]
) -> list[Against]:
    lines = []
    for group in groups:
        if not group.rest:
            continue
        places = np.flatnonzero(~group.members)
        tested = found.tested.among(places)
        for number, strategy in enumerate(found.shown):
            rest = _mean([tested.score([metric], each[places])[metric.name] for each in found.predictions[strategy]])
            lines.append(Against(strategy, group, *_difference(scores[group.name][number], rest)))
    return lines


def _difference(first: Score, second: Score) -> tuple[Interval, float]:
    """Return the first minus the second on the same resamples, whichever folds each is defined in, and its p value."""
    gap = first.distribution - second.distribution
    left_out = None if first.left_out is None or second.left_out is None else first.left_out - second.left_out
    span = interval(first.value - second.value, gap, left_out)
    return span, two_sided_p(gap) if np.isfinite(span.value) else float("nan")


def _adjusted(lines: Sequence[Against]) -> list[float]:
    """Adjust the p values of a strategy together; two groups that are each other's rest are one test."""
    keys = [min(each.group.members.tobytes(), (~each.group.members).tobytes()) for each in lines]
    first = {key: each.p for key, each in reversed(list(zip(keys, lines, strict=True)))}
    adjusted = dict(zip(first, holm(list(first.values())), strict=True))
    return [adjusted[key] for key in keys]


def _rest_table(found: Evidence, against: Sequence[Against], name: str) -> Table:
    lines = []
    for strategy, label in found.shown.items():
        mine = [each for each in against if each.strategy == strategy]
        for each, p in zip(mine, _adjusted(mine), strict=True):
            lines.append([label, each.group.attribute, each.group.name, each.span, each.p, p, _shown(each.span, p)])
    heads = ["strategy", "groups by", "group", f"{name}, group minus all others", "p", "p (Holm)", "shown?"]
    note = "Corrected by Holm's method over the groups of a strategy; two groups that are each other's rest count once."
    return Table(heads, lines, note)


def _shown(span: Interval, p: float) -> str:
    if not np.isfinite(p):
        return "not defined"
    return "yes" if (span.low > 0 or span.high < 0) and p < 0.05 else "no difference shown"


def _gaps(found: Evidence, groups: Sequence[Group], metric: Metric, scores: Mapping[str, Sequence[Score]]) -> Table:
    """Return worst minus best group of each attribute."""
    lines = []
    for attribute in dict.fromkeys(group.attribute for group in groups):
        for number, label in enumerate(found.shown.values()):
            mine = {g.name: scores[g.name][number] for g in groups if g.attribute == attribute}
            ranked = sorted((name for name in mine if np.isfinite(mine[name].value)), key=lambda n: mine[n].value)
            if len(ranked) < 2:
                continue
            worst, best = (ranked[0], ranked[-1]) if metric.higher_is_better else (ranked[-1], ranked[0])
            lines.append([attribute, label, worst, best, _difference(mine[worst], mine[best])[0]])
    note = "Which group is worst and which best was seen on these patients, so a gap is flattered and has no p value."
    heads = ["groups by", "strategy", "worst", "best", f"{metric_name(metric.name)}, worst minus best"]
    return Table(heads, lines, note)


def _verdict(found: Evidence, groups: Sequence[Group], against: Sequence[Against], name: str) -> str:
    if not groups:
        return "No group has enough patients with more than one outcome; the table names them."
    said = []
    for strategy, label in found.shown.items():
        mine = [each for each in against if each.strategy == strategy]
        pairs = [
            f"{each.group.name} ({each.span.value:+.3f})"
            for each, p in zip(mine, _adjusted(mine), strict=True)
            if _shown(each.span, p) == "yes"
        ]
        said.append(f"{label}: {', '.join(pairs) if pairs else 'no group is shown to differ from all others'}")
    return f"Groups whose {name} differs from that of all other patients. {'; '.join(said)}."


def _undefined(lines: Sequence[Sequence[Any]]) -> str:
    undefined = any(isinstance(cell, Interval) and not np.isfinite(cell.value) for line in lines for cell in line)
    return "Not defined: a score that needs both outcomes in the group and has them in no fold." if undefined else ""


def _picture(found: Evidence, table: Table, scores: Mapping[str, Sequence[Score]], name: str) -> Picture:
    sizes = {row[1]: row[2] for row in table.rows}
    spans = [(f"{each}, {sizes[each]:,}", [score.interval for score in mine]) for each, mine in scores.items()]
    said = "; ".join(f"{each}: " + ", ".join(f"{span.value:.3f}" for span in mine) for each, mine in spans)
    labels = list(found.shown.values())
    shows = f"{name} of {', '.join(labels)} by group and its number of patients: {said}"
    return Picture(groups_png(spans, labels, name), shows)
