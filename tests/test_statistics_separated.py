"""Areas of exactly 0 or 1 get an interval with a width, from how many patients they are of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from experiments import scoring
from experiments.comparison import Row
from experiments.footnotes import footnotes
from experiments.metrics import METRICS
from experiments.statistics.separated import Separated

SQUARE = 1.959963984540054**2


def area_of(positives: list[float], negatives: list[float], value: float = 1.0) -> tuple[float, float]:
    found = Separated(np.array(positives), np.array(negatives)).interval(value, np.full(100, value))
    return found.low, found.high


def test_one_pair_of_patients_by_hand() -> None:
    """With one pair, (1 - a)^2 = 1.96^2 a (1 - a); two folds of one pair halve the variance."""
    assert area_of([1], [1]) == pytest.approx((1 / (1 + SQUARE), 1.0))
    assert area_of([1, 1], [1, 1]) == pytest.approx((1 / (1 + SQUARE / 2), 1.0))
    assert area_of([1], [1], value=0.0) == pytest.approx((0.0, SQUARE / (1 + SQUARE)))


def test_an_area_at_the_end_of_the_interval_rarely_separates_perfectly() -> None:
    low, _ = area_of([15], [15])
    dice = np.random.default_rng(0)
    sick, well = dice.normal(ndtri(low) * np.sqrt(2), 1, (20_000, 15)), dice.normal(0, 1, (20_000, 15))
    assert 0.001 < (sick.min(1) > well.max(1)).mean() < 0.05


def test_more_patients_narrow_it_and_more_rows_of_them_do_not() -> None:
    assert area_of([10], [10])[0] < area_of([40], [40])[0] < area_of([400], [400])[0] < 1
    patient = np.arange(20)
    target = (patient < 10).astype(float)
    once = Separated.of(target, patient, (np.arange(20),))
    thrice = Separated.of(np.repeat(target, 3), np.repeat(patient, 3), (np.arange(60),))
    assert once.positives == thrice.positives == pytest.approx(10)


def test_scores_that_separate_have_it_and_others_keep_their_resamples() -> None:
    target = np.repeat([1.0, 0.0], 12)
    tested = scoring.Tested.of(target, np.arange(24), np.arange(24) % 2, resamples=200)
    perfect = tested.score([METRICS["auroc"]], target)["auroc"]
    assert perfect.interval.low == pytest.approx(area_of([6, 6], [6, 6])[0])
    assert scoring.mean_score([perfect, perfect]).interval == perfect.interval
    prediction = target.copy()
    prediction[[0, 1]] = -1
    other = tested.score([METRICS["auroc"]], prediction)["auroc"]
    assert 0 < other.interval.low < other.value < other.interval.high < 1.0001
    constant = tested.score([METRICS["auroc"]], np.zeros(24))["auroc"].interval
    assert (constant.low, constant.high) == (0.5, 0.5)


def test_an_interval_without_a_width_has_a_footnote() -> None:
    rows = [Row(name, "fusion", "auprc", 1.0, low, 1.0, 0.0, (1.0,)) for name, low in (("early", 1.0), ("late", 0.9))]
    (note,) = footnotes(METRICS["auroc"], rows, [], {}, {})
    assert note.startswith("AUPRC of early is the same in every resample, so that its interval has no width")
