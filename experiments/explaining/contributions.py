"""Which modality decides: Shapley values of the metric and of each prediction, and which modalities need each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.explaining.pictures import values_png
from experiments.explaining.sets import MOST_SHOWN, Sets, all_sets, tested_again
from experiments.explaining.weights import weights_table
from experiments.metrics import Metric, metric_name
from experiments.scoring import Tested
from experiments.section import Picture, Section, Table
from experiments.statistics.bootstrap import metric_distribution
from experiments.statistics.intervals import Interval, interval
from experiments.statistics.means import OfMeans
from experiments.statistics.shapley import interaction_weights, shapley_values, shapley_weights
from fusion import Task

if TYPE_CHECKING:
    from experiments.sections import Findings

Array = NDArray[Any]
_MOVES = 1e-4  # log-odds, or parts of a target's spread: less is the noise of float32, and nobody's share


class Contribution(NamedTuple):
    """What a modality brings to one strategy: of the metric, of the predictions, and how far it moves these."""

    strategy: str
    modality: str
    value: Interval
    share: Interval
    size: float


class Interaction(NamedTuple):
    """What two modalities bring together beyond what each brings alone."""

    strategy: str
    first: str
    second: str
    together: Interval


def modality_values(findings: Findings) -> Section | None:
    """Return the part on what each modality is worth; None where no strategy reads several."""
    found, left_out = all_sets(findings)
    if not found:
        return None
    (tested, metric), task = tested_again(findings), findings.stores[0].task
    rows = [row for each in found for row in contributions(each, tested, metric, task)]
    pairs = [row for each in found[:MOST_SHOWN] for row in interactions_of(each, tested, metric)]
    best = found[0]
    nothing, everything = (best.value(tested, metric, each) for each in (0, 2 ** len(best.modalities) - 1))
    tables = {
        "modality_values": _values_table(rows, metric, task),
        "modality_interactions": _interactions_table(pairs, metric),
    }
    weights = weights_table(findings.held_out, [each.strategy for each in found])
    return Section(
        "Which modality decides?",
        [
            _found([row for row in rows if row.strategy == best.strategy], nothing, everything, metric),
            _needed([row for row in pairs if row.strategy == best.strategy], metric),
            _how_to_read(metric, task),
            *([f"Left out, because predictions without some modality are not finite: {', '.join(left_out)}."]
              if left_out else []),
        ],
        tables | ({"fusion_weights": weights} if weights is not None else {}),
        {"modality_values": Picture(values_png(rows, metric.name), _described(rows, metric))},
    )  # fmt: skip


def contributions(sets: Sets, tested: Tested, metric: Metric, task: Task) -> list[Contribution]:
    """Return what each modality brings to one strategy."""
    values = sets.combined(tested, metric, shapley_weights(len(sets.modalities)))
    shares, sizes = shares_of_predictions(sets, tested, task)
    return [
        Contribution(sets.strategy, name, values[place].interval, shares[place], float(sizes[place]))
        for place, name in enumerate(sets.modalities)
    ]


def interactions_of(sets: Sets, tested: Tested, metric: Metric) -> list[Interaction]:
    """Return the interaction index of every two modalities in one strategy; one modality has none to interact with."""
    if len(sets.modalities) < 2:
        return []
    weights, names = interaction_weights(len(sets.modalities)), sets.modalities
    pairs = list(combinations(range(len(names)), 2))
    found = sets.combined(tested, metric, np.stack([weights[one, other] for one, other in pairs]))
    return [
        Interaction(sets.strategy, names[one], names[other], each.interval)
        for (one, other), each in zip(pairs, found, strict=True)
    ]


def shares_of_predictions(sets: Sets, tested: Tested, task: Task) -> tuple[list[Interval], Array]:
    """Return what share of its predictions' movement is each modality's, and by how much it moves them.

    A prediction is the sum of its modalities' Shapley values and of what is said of a patient with nothing; a
    modality's share is the size of its value among the sizes of all. Patients whose prediction nothing moves have no
    shares and are left out.

    Shape:
        -> M intervals, and (M,) mean sizes on the additive scale.
    """
    sizes = []
    for seed in sets.additive(task):
        size = np.abs(shapley_values(seed))
        sizes.append(size if size.ndim == 2 else size.sum(2))
    everyone = np.stack(sizes)  # (S, M, N)
    total = everyone.sum(1)
    rows = np.flatnonzero((total > _MOVES * _unit(task)).all(0))
    if not len(rows):
        return [Interval(math.nan, math.nan, math.nan)] * len(sets.modalities), everyone.mean((0, 2))
    shares = (everyone[:, :, rows] / total[:, None, rows]).mean(0).T
    drawn = metric_distribution(_MEAN_SHARE, tested.target[rows], shares, tested.drawn.of(rows))
    values = shares.mean(0)
    return [interval(float(value), drawn[:, place]) for place, value in enumerate(values)], everyone.mean((0, 2))


def _shares(_: Array, shares: Array) -> Array:
    return shares


def _as_they_are(means: Array) -> Array:
    return means


_MEAN_SHARE = Metric("share", OfMeans(_shares, _as_they_are), True, ())


def _unit(task: Task) -> float:
    """Return one log-odds, or the spread of a regression's target."""
    return task.scale if task.kind == "regression" else 1.0


def _values_table(rows: Sequence[Contribution], metric: Metric, task: Task) -> Table:
    scale = "target's unit" if task.kind == "regression" else "log-odds"
    heads = ["strategy", "modality", f"Shapley value of {metric_name(metric.name)}", "low", "high"]
    heads += ["share of the prediction", "share low", "share high", f"mean size ({scale})"]
    cells = [[r.strategy, r.modality, *_cells(r.value), *_cells(r.share), r.size] for r in rows]
    undefined = sorted({row.strategy for row in rows if not math.isfinite(row.share.value)})
    note = f"Shares are not defined for {', '.join(undefined)}: no modality moves any prediction." if undefined else ""
    return Table(heads, cells, note)


def _interactions_table(rows: Sequence[Interaction], metric: Metric) -> Table:
    heads = ["strategy", "first", "second", f"interaction in {metric_name(metric.name)}", "low", "high"]
    note = f"Of the best {MOST_SHOWN} strategies." if len({row.strategy for row in rows}) == MOST_SHOWN else ""
    return Table(heads, [[row.strategy, row.first, row.second, *_cells(row.together)] for row in rows], note)


def _cells(span: Interval) -> tuple[float, float, float]:
    return span.value, span.low, span.high


def _found(rows: Sequence[Contribution], nothing: float, everything: float, metric: Metric) -> str:
    """Say what the modalities of the best strategy are worth."""
    if not math.isfinite(everything):
        return f"{metric_name(metric.name)} is not defined on these patients, so no modality's part of it is either."
    helps = 1 if metric.higher_is_better else -1
    ranked = sorted(rows, key=lambda row: -helps * row.value.value)
    parts = ", ".join(f"{row.modality} {in_words(row.value)}" for row in ranked)
    return (
        f"{rows[0].strategy} reaches {metric_name(metric.name)} {everything:.3f} with everything and {nothing:.3f} "
        f"with nothing. Of the difference of {everything - nothing:+.3f}, the modalities bring: {parts}."
    )


def _needed(rows: Sequence[Interaction], metric: Metric) -> str:
    """Say which two modalities of the best strategy depend most on each other."""
    shown = [row for row in rows if row.together.low > 0 or row.together.high < 0]
    if not shown:
        return "No two modalities are shown to need or to replace each other in it."
    most = max(shown, key=lambda row: abs(row.together.value))
    together = (most.together.value > 0) == metric.higher_is_better
    means = "they bring more together than alone" if together else "each is worth less where the other is there"
    return f"The largest interaction is that of {most.first} and {most.second}, {in_words(most.together)}: {means}."


def _how_to_read(metric: Metric, task: Task) -> str:
    name = metric_name(metric.name)
    better = "" if metric.higher_is_better else f" Lower {name} is better, so a value below zero is a gain."
    opposite = "above" if metric.higher_is_better else "below"
    scale = "in the target's unit" if task.kind == "regression" else "in log-odds"
    return (
        f"A modality's Shapley value is what it adds to {name}, averaged over all sets of modalities that it can join; "
        f"the values add up to the difference between everything and nothing.{better} They say what the trained model "
        f"uses, not what another could. The interaction of two is what they add together beyond what each adds alone: "
        f"{opposite} zero they need each other, on the other side one can stand in for the other, or there was little "
        f"left to gain. The share of the prediction is about single predictions, {scale}: how much of what moves them "
        "is this modality's."
    )


def in_words(span: Interval) -> str:
    """Return a value with its interval."""
    if not math.isfinite(span.low):
        return f"{span.value:+.3f} (interval not defined)" if math.isfinite(span.value) else "not defined"
    return f"{span.value:+.3f} ({span.low:+.3f} to {span.high:+.3f})"


def _described(rows: Sequence[Contribution], metric: Metric) -> str:
    said = "; ".join(f"{row.strategy}, {row.modality}: {in_words(row.value)}" for row in rows)
    return f"Shapley value of {metric_name(metric.name)} of each modality in each strategy: {said}"
