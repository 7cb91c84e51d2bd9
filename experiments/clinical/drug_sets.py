"""Which sets of drugs are predicted: how often they interact, and how like the sets that were given they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.clinical.evidence import evidence
from experiments.section import Section, Table
from experiments.statistics.given_together import pairs_given
from experiments.statistics.intervals import Interval
from experiments.statistics.means import Quantities, ratio
from experiments.statistics.sets import CUT, f1, jaccard, precision_of_rows
from experiments.tasks.interactions import label_interactions

if TYPE_CHECKING:
    from experiments.sections import Findings

Array = NDArray[Any]
NAMES = ("interaction_rate", "jaccard", "f1", "auprc", "drugs")
"""What `drug_sets` measures."""


def drug_sets(matrix: NDArray[np.bool_]) -> Quantities:
    """Return what is measured of sets of drugs, all of them means over rows or ratios of such.

    The interaction rate is over the pairs of all sets; Jaccard index, F1 and average precision (of rows with a drug)
    are of each row and averaged; `drugs` is how many a set has.

    Shape:
        matrix (K, K); the predictions are probabilities (N, K).

    Reference:
        Yang et al., SafeDrug, 2021 (DDI rate, Jaccard, F1, PRAUC; there a row without any drug counts 0, and its
        prediction of none is right here).
    """
    return Quantities(NAMES, partial(_columns, matrix), _finish)


def _columns(matrix: NDArray[np.bool_], target: Array, prediction: Array) -> Array:
    given = prediction >= CUT
    parts = [pairs_given(given, matrix), jaccard(target, prediction), f1(target, prediction)]
    return np.concatenate([*parts, precision_of_rows(target, prediction), given.sum(1, keepdims=True)], axis=1)


def _finish(means: Array) -> Array:
    rate, precision = ratio(means[..., 0], means[..., 1]), ratio(means[..., 4], means[..., 5])
    return np.stack([rate, means[..., 2], means[..., 3], precision, means[..., 6]], axis=-1)


def drug_sets_section(findings: Findings) -> Section | None:
    """Return what sets are predicted, for labels of which interactions are known; None for others."""
    store = findings.stores[0]
    several = store.task.kind == "multilabel"
    matrix = label_interactions(store.dataset, store.config.labels, store.task) if several else None
    if matrix is None:
        return None
    found, wanted = evidence(findings), drug_sets(matrix)
    ranking = findings.comparison.ranking()
    scores = {row.label: found.mean(wanted, found.predictions[row.strategy]) for row in ranking}
    truth = found.mean(wanted, [found.tested.target])
    rows: list[list[Any]] = [[label, *(each[name].interval for name in NAMES)] for label, each in scores.items()]
    rows.append(["what was given", truth["interaction_rate"].interval, "", "", "", truth["drugs"].interval])
    heads = ["strategy", "interaction rate", "Jaccard", "F1", "AUPRC", "drugs a row"]
    note = (
        f"A drug is predicted from a probability of {CUT} on. The interaction rate is the share of interacting pairs "
        "among all pairs predicted together; the other scores are of each row's set and averaged."
    )
    if any(math.isnan(row[1].value) for row in rows):
        note += " Where it is not defined, no two drugs were predicted together."
    words = [_verdict(rows), _HELD_DOWN]
    return Section("Do the predicted drugs go together?", words, {"drug_sets": Table(heads, rows, note)})


_HELD_DOWN = (
    "Which drugs interact is what the label's interactions.csv says. Training holds the rate down where "
    "training.interaction_target is set; epochs are chosen among those that keep to it."
)


def _verdict(rows: Sequence[Sequence[Any]]) -> str:
    said = [f"{row[0]} {_in_words(row[1])}" for row in rows]
    return f"Of the pairs of drugs, so many interact: {'; '.join(said)}."


def _in_words(span: Interval) -> str:
    if math.isnan(span.value):
        return "not defined (no pair)"
    return f"{span.value:.1%} ({span.low:.1%} to {span.high:.1%})"
