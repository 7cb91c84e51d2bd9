"""What if a modality is missing: the metric when more and more of its patients lose it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.explaining.contributions import in_words
from experiments.explaining.pictures import curves_png
from experiments.explaining.sets import MOST_SHOWN, Sets, all_sets, tested_again
from experiments.metrics import Metric, metric_name
from experiments.scoring import Score, Tested, mean_score
from experiments.section import Picture, Section, Table
from experiments.statistics.intervals import Interval

if TYPE_CHECKING:
    from experiments.sections import Findings

Array = NDArray[Any]
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_STREAM = 70_004  # keeps who loses a modality apart from other draws of the same seed


@dataclass(frozen=True)
class Removal:
    """One strategy when patients lose one or two modalities: the metric at each share of `SHARES`, and the loss at all.

    `patients` are those who have what is removed; intervals are there for single modalities.
    """

    strategy: str
    removed: str
    patients: int
    values: tuple[float, ...]
    loss: Interval
    spans: tuple[Interval, ...] = ()


def missing_modalities(findings: Findings) -> Section | None:
    """Return the part on what is left without modalities; None where no strategy reads several."""
    found, _ = all_sets(findings)
    if not found:
        return None
    tested, metric = tested_again(findings)
    rows = [row for sets in found[:MOST_SHOWN] for row in removals(sets, tested, metric, findings.config.seed)]
    singles = [row for row in rows if row.spans]
    mine = [row for row in singles if row.strategy == found[0].strategy]
    return Section(
        "What if a modality is missing?",
        [_worst(mine, metric), _how_to_read(metric)],
        {"missing_modalities": _table(rows, metric)},
        {"missing_modalities": Picture(curves_png(singles, SHARES, metric.name), _described(singles, metric))},
    )


def removals(sets: Sets, tested: Tested, metric: Metric, seed: int) -> list[Removal]:
    """Take each modality, and each two, from more and more of the patients who have it."""
    whole = _score(sets, tested, metric, np.full(len(tested.target), 2 ** len(sets.modalities) - 1))
    groups = [*((place,) for place in range(len(sets.modalities))), *combinations(range(len(sets.modalities)), 2)]
    found = []
    for group in groups:
        names = " and ".join(sets.modalities[place] for place in group)
        if len(group) == len(sets.modalities):
            continue  # nothing is left: no model is needed for that
        members = [members_left(sets, group, tested.subject_ids, share, seed) for share in SHARES]
        has = sets.present[list(group)].any(0)
        patients = len(np.unique(tested.subject_ids[has]))
        last = _score(sets, tested, metric, members[-1])
        loss = last.minus(whole).interval
        if len(group) == 1:
            scores = [whole, *(_score(sets, tested, metric, each) for each in members[1:-1]), last]
            spans = tuple(each.interval for each in scores)
            found.append(Removal(sets.strategy, names, patients, tuple(each.value for each in spans), loss, spans))
            continue
        values = [whole.value, *(_value(sets, tested, metric, each) for each in members[1:-1]), last.value]
        found.append(Removal(sets.strategy, names, patients, tuple(values), loss))
    return found


def members_left(sets: Sets, group: Sequence[int], subject_ids: Array, share: float, seed: int) -> Array:
    """Return which set of modalities each row is left with when a share of the patients loses a group of them.

    Only patients who have any of the group can lose it, all their rows together. Who loses it is drawn once: whoever
    does at a share does at every larger one, in every strategy and seed.

    Shape:
        subject_ids (N,) -> (N,) int64, places among the sets.
    """
    has = sets.present[list(group)].any(0)
    owners = np.unique(subject_ids[has])
    order = np.random.default_rng([_STREAM, seed, *group]).permutation(len(owners))
    loses = np.isin(subject_ids, owners[order[: round(share * len(owners))]])
    everything = 2 ** len(sets.modalities) - 1
    return np.where(loses, everything - sum(2**place for place in group), everything)


def _predicted(seed: Array, members: Array) -> Array:
    """Return each row's prediction from the set it is left with. Shape: (2**M, N, ...), (N,) -> (N, ...)."""
    found: Array = seed[members, np.arange(len(members))]
    return found


def _score(sets: Sets, tested: Tested, metric: Metric, members: Array) -> Score:
    return mean_score([tested.score([metric], _predicted(seed, members))[metric.name] for seed in sets.by_seed])


def _value(sets: Sets, tested: Tested, metric: Metric, members: Array) -> float:
    """Return the metric, averaged over folds and seeds, without resampling."""
    found = [_predicted(seed, members) for seed in sets.by_seed]
    return float(np.mean([metric(tested.target[rows], each[rows]) for each in found for rows in tested.folds]))


def _table(rows: Sequence[Removal], metric: Metric) -> Table:
    heads = ["strategy", "removed", "patients", *(f"at {share:.0%}" for share in SHARES), "change at 100%"]
    cells = [
        [row.strategy, row.removed, row.patients, *row.values, row.loss.value, row.loss.low, row.loss.high]
        for row in rows
    ]
    note = f"{metric_name(metric.name)} when that share of the patients who have it lose it; change from none to all."
    return Table([*heads, "low", "high"], cells, note)


def _worst(rows: Sequence[Removal], metric: Metric) -> str:
    """Say whose loss the best strategy bears worst, and whose best."""
    sign = 1 if metric.higher_is_better else -1
    defined = sorted((row for row in rows if math.isfinite(row.loss.value)), key=lambda row: sign * row.loss.value)
    if not defined:
        return f"{metric_name(metric.name)} is not defined on these patients, so no loss is either."
    worst, least = defined[0], defined[-1]
    return (
        f"{worst.strategy} bears the loss of {worst.removed} worst: when all {worst.patients:,} patients who have it "
        f"lose it, {metric_name(metric.name)} changes by {in_words(worst.loss)}; least matters {least.removed}, "
        f"{in_words(least.loss)}."
    )


def _how_to_read(metric: Metric) -> str:
    better = "Higher" if metric.higher_is_better else "Lower"
    return (
        "The trained models meet patients from whom a modality is taken at random; a patient who never had it is as "
        "before, and whoever loses it at one share loses it at every larger one. Models are not trained again, so this "
        f"is what happens when records do not arrive. {better} is better."
    )


def _described(rows: Sequence[Removal], metric: Metric) -> str:
    said = "; ".join(
        f"{row.strategy} without {row.removed}: {', '.join(f'{value:.3f}' for value in row.values)}" for row in rows
    )
    return f"{metric_name(metric.name)} when {', '.join(f'{s:.0%}' for s in SHARES)} lose a modality: {said}"
