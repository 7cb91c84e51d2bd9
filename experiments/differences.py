"""Paired differences between strategies: over resampled patients, by DeLong, and across folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.metrics import Metric
from experiments.scoring import Score, Tested
from experiments.statistics.across_folds import corrected_t, sign_flips
from experiments.statistics.delong import delong, mean_areas
from experiments.statistics.intervals import Interval, two_sided_p
from experiments.statistics.multiple import benjamini_hochberg, holm, over_all_pairs
from experiments.statistics.signed_rank import Practical, signed_rank

Array = NDArray[Any]
_UNDEFINED = float("nan")
_UNBOUNDED = ("rmse", "mae", "log_loss")  # metrics for which no difference is small in itself
EQUIVALENCE = 0.01
LEAST_PATIENTS = 10
"""With either outcome; of fewer, no difference is called shown."""


@dataclass(frozen=True)
class AcrossFolds:
    """A difference over folds: corrected t test with its interval, sign flips, and whether it matters in practice.

    `same_sign` folds of `folds` have a difference of the sign that the mean has.
    """

    folds: int
    same_sign: int
    low: float
    high: float
    p: float
    p_flips: float
    practical: Practical | None


@dataclass(frozen=True)
class Difference:
    """The first strategy's metric minus the second's, on the same resampled patients.

    `p` is the bootstrap's; `p_holm` and `p_fdr` are adjusted for all differences in the table, `p_all` for all pairs of
    strategies, because who leads was seen first; `p_delong` is for an AUROC only; `across` is there with two folds or
    more; `too_few` says that there are fewer patients than resamples can stand for.
    """

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    p_all: float
    p_fdr: float = _UNDEFINED
    p_delong: float = _UNDEFINED
    across: AcrossFolds | None = None
    too_few: bool = False

    @property
    def shown(self) -> bool:
        """Whether neither the interval, the p value adjusted for all pairs, nor the number of patients doubts it."""
        return not self.too_few and (self.low > 0 or self.high < 0) and self.p_all < 0.05


def pairs(values: Mapping[str, float], kinds: Mapping[str, str], *, higher_is_better: bool) -> list[tuple[str, str]]:
    """Return who is compared: the best with every other, and the best fusion with the best of other kinds."""
    worst = -np.inf if higher_is_better else np.inf
    order = sorted(
        values, key=lambda name: values[name] if np.isfinite(values[name]) else worst, reverse=higher_is_better
    )
    found = [(order[0], other) for other in order[1:]]
    tops = {kinds[name]: name for name in reversed(order)}  # the best of each kind
    found += [(tops["fusion"], tops[kind]) for kind in ("modality", "control") if "fusion" in tops and kind in tops]
    return [pair for i, pair in enumerate(found) if {*pair} not in [{*other} for other in found[:i]]]


def differences(
    metric: Metric,
    compared: Sequence[tuple[str, str]],
    scores: Mapping[str, Score],
    predictions: Mapping[str, Sequence[Array]],
    tested: Tested,
    *,
    equivalence: float | None = None,
    seed: int = 0,
) -> list[Difference]:
    """Return the paired differences of a metric, adjusted together.

    Args:
        compared: who is compared.
        scores: the mean over seeds of each strategy.
        predictions: of each strategy, one a seed.
        tested: what they are predictions for.
        equivalence: differences up to this size do not matter; a default for metrics between 0 and 1.
        seed: of sign flips and of the Bayesian test.
    """
    if equivalence is None and metric.name not in _UNBOUNDED:
        equivalence = EQUIVALENCE
    place = {name: i for i, name in enumerate(scores)}
    p_all = over_all_pairs(
        np.array([each.value for each in scores.values()]), np.stack([each.distribution for each in scores.values()])
    )
    few, found = too_few(tested.target, tested.subject_ids), []
    for first, second in compared:
        gap = scores[first].minus(scores[second])
        p = two_sided_p(gap.distribution) if np.isfinite(gap.value) else _UNDEFINED
        adjusted = np.maximum(p, p_all[place[first], place[second]])  # of few resamples both are coarse
        found.append(
            Difference(
                first,
                second,
                metric.name,
                *_span(gap.interval),
                p=p,
                p_holm=_UNDEFINED,
                p_all=float(adjusted),
                p_delong=_delong_p(tested, predictions[first], predictions[second])
                if metric.name == "auroc"
                else _UNDEFINED,
                across=_across(gap.folds, equivalence, seed) if len(gap.folds) > 1 else None,
                too_few=few,
            )
        )
    p_values = [each.p for each in found]
    return [
        replace(each, p_holm=corrected, p_fdr=rate)
        for each, corrected, rate in zip(found, holm(p_values), benjamini_hochberg(p_values), strict=True)
    ]


def too_few(target: Array, subject_ids: Array) -> bool:
    """Tell whether there are fewer than ten patients, or fewer than ten with either outcome.

    Of so few, resamples vary less than new patients would: with ten patients with an outcome and five without, some
    difference between strategies that only guess was shown in 12% of cohorts (`benchmarks/false_wins.py`).

    Shape:
        target (N,) or (N, K); subject_ids (N,).
    """
    binary = target.ndim == 1 and np.isin(target, (0, 1)).all()
    groups = [subject_ids[target == outcome] for outcome in (0, 1)] if binary else [subject_ids]
    return any(len(np.unique(each)) < LEAST_PATIENTS for each in groups)


def _span(found: Interval) -> tuple[float, float, float]:
    return found.value, found.low, found.high


def _across(gaps: Array, equivalence: float | None, seed: int) -> AcrossFolds:
    """Test the differences of folds, each a mean over seeds. Shape: (F,)."""
    span, p = corrected_t(gaps, 1 / (len(gaps) - 1))
    practical = signed_rank(gaps, equivalence, seed) if equivalence is not None else None
    same = int((np.sign(gaps) == np.sign(span.value)).sum())
    return AcrossFolds(len(gaps), same, span.low, span.high, p, sign_flips(gaps, seed), practical)


def _delong_p(tested: Tested, first: Sequence[Array], second: Sequence[Array]) -> float:
    """Return DeLong's p value of the difference between means over seeds and folds; folds share no patient."""
    weights = np.concatenate([np.full(len(first), 1 / len(first)), np.full(len(second), -1 / len(second))])
    both = np.stack([*first, *second])
    areas = [delong(tested.target[rows], both[:, rows], tested.subject_ids[rows]) for rows in tested.folds]
    return mean_areas(areas).difference(weights)[1]
