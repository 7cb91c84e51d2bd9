"""Why something in a comparison's tables is not defined, or is what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from experiments.differences import LEAST_PATIENTS, Difference
from experiments.metrics import Metric, metric_name
from experiments.scoring import Score

if TYPE_CHECKING:
    from experiments.comparison import Row

Array = NDArray[Any]


def footnotes(
    primary: Metric,
    rows: Sequence[Row],
    differences: Sequence[Difference],
    scores: Mapping[str, Score],
    predictions: Mapping[str, Sequence[Array]],
) -> list[str]:
    """Return a sentence for everything in the tables that a reader could stumble over."""
    return [
        *_undefined(rows),
        *_resamples(primary, scores),
        *_still(rows),
        *_constant(predictions),
        *_tests(differences),
    ]


def _undefined(rows: Sequence[Row]) -> list[str]:
    found = []
    for metric in dict.fromkeys(row.metric for row in rows if not math.isfinite(row.value)):
        needs = "targets that vary" if metric == "r2" else "both outcomes"
        folds = " of every fold" if any(row.folds for row in rows) else ""
        found.append(f"{metric_name(metric)} is not defined: it needs {needs} among the held-out rows{folds}")
    return found


def _resamples(primary: Metric, scores: Mapping[str, Score]) -> list[str]:
    share = max((float((~np.isfinite(each.distribution)).mean()) for each in scores.values()), default=0.0)
    if not 0 < share < 1:
        return []
    return [
        f"{metric_name(primary.name)} is not defined in {share:.1%} of the resamples, which have one outcome only; "
        "they are left out of its intervals"
    ]


def _still(rows: Sequence[Row]) -> list[str]:
    found = []
    for metric in dict.fromkeys(row.metric for row in rows if row.low == row.high):
        names = ", ".join(dict.fromkeys(row.strategy for row in rows if row.metric == metric and row.low == row.high))
        found.append(
            f"{metric_name(metric)} of {names} is the same in every resample, so that its interval has no width; that "
            "does not make it certain"
        )
    return found


def _constant(predictions: Mapping[str, Sequence[Array]]) -> list[str]:
    found = []
    for strategy, seeds in predictions.items():
        constant = sum(len(np.unique(each, axis=0)) == 1 for each in seeds)
        if constant:
            found.append(f"{strategy}: {constant} of {len(seeds)} seeds predict the same for everybody")
    return found


def _tests(differences: Sequence[Difference]) -> list[str]:
    found = []
    defined = [each for each in differences if math.isfinite(each.value)]
    if any(each.metric == "auroc" and not math.isfinite(each.p_delong) for each in defined):
        found.append(
            "DeLong's p value is not defined where an area does not vary over patients: perfect or constant "
            "predictions, or one patient with the outcome"
        )
    if any(each.too_few for each in defined):
        found.append(
            f"there are fewer than {LEAST_PATIENTS} held-out patients, or fewer with either outcome: of so few, "
            "intervals and p values are too small, and no difference is called shown, whatever they say"
        )
    if any(each.across is not None and not math.isfinite(each.across.p) for each in defined):
        found.append("the corrected t test is not defined where a difference is the same in every fold")
    folds = next((each.across.folds for each in defined if each.across is not None), 0)
    if 0 < folds < 6:
        found.append(f"with {folds} folds, flipping signs cannot give a p value below {2 / 2**folds:.3f}")
    return found
