"""BCa intervals against scipy's, strata, leaving out, and p values of many tests by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.metrics import METRICS
from experiments.statistics.bootstrap import Resamples, metric_distribution, metric_distributions
from experiments.statistics.intervals import bca_interval, interval, percentile_interval

NAN = float("nan")


def mean_of(values: Any, resamples: Resamples) -> Any:
    """The mean of positive values, as the absolute error of predicting them for zeros."""
    return metric_distribution(METRICS["mae"], np.zeros(len(values)), values, resamples)


def test_bca_is_what_scipy_makes_of_the_same_resamples() -> None:
    values = np.random.default_rng(0).exponential(size=40)  # skewed, so that BCa and percentiles differ
    rows = np.arange(40)
    found = mean_of(values, Resamples.draw(rows, 2000, 0))
    left_out = mean_of(values, Resamples.leave_out(rows, 0))
    assert sorted(left_out) == pytest.approx(sorted((values.sum() - values) / 39))
    earlier = stats.bootstrap((values,), np.mean, n_resamples=50, method="BCa")
    earlier.bootstrap_distribution = found
    scipy = stats.bootstrap((values,), np.mean, n_resamples=0, method="BCa", bootstrap_result=earlier)
    span = bca_interval(values.mean(), found, left_out)
    expected = scipy.confidence_interval
    assert (span.low, span.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    plain = percentile_interval(values.mean(), found)
    assert span.low > plain.low + 0.005
    assert span.high > plain.high + 0.02


def test_bca_of_what_does_not_vary_and_of_nothing() -> None:
    constant = interval(0.5, np.full(100, 0.5), np.full(9, 0.5))
    assert (constant.value, constant.low, constant.high) == (0.5, 0.5, 0.5)
    for value, distribution in ((0.5, np.full(5, NAN)), (NAN, np.ones(5))):
        span = interval(value, distribution, np.ones(3))
        assert np.isnan([span.low, span.high]).all()
    aside = np.linspace(0.1, 1, 999)
    assert interval(0.0, aside, np.full(3, NAN)) == percentile_interval(0.0, aside)


def test_groups_are_left_out_whole_and_everybody_once() -> None:
    subject_ids = np.array([5, 5, 9, 2, 2, 2, 7])
    each = Resamples.leave_out(subject_ids, seed=0)
    assert each.counts.shape == (4, 4)
    assert (each.counts.sum(0) == 3).all()
    assert (each.counts.sum(1) == 3).all()
    grouped = Resamples.leave_out(np.arange(1001), seed=0, groups=10)
    assert sorted(1001 - grouped.counts.sum(1)) == [100] * 9 + [101]
    assert (grouped.counts.sum(0) == 9).all()


def test_every_stratum_keeps_its_number_of_patients() -> None:
    subject_ids, strata = np.arange(30), np.repeat([0, 4], [10, 20])
    drawn = Resamples.draw(subject_ids, 50, 0, strata)
    assert (drawn.counts[:, :10].sum(1) == 10).all()
    assert (drawn.counts[:, 10:].sum(1) == 20).all()
    assert (drawn.of(np.array([3, 3, 29])).patient == [3, 3, 29]).all()
    one = Resamples.draw(subject_ids, 50, 0, np.zeros(30, np.int64))
    assert (one.counts == Resamples.draw(subject_ids, 50, 0).counts).all()


def test_metrics_together_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    target, prediction = (rng.random(50) < 0.4).astype(float), rng.random(50).round(1)
    drawn = Resamples.draw(np.arange(50), 20, 0)
    names = ("auroc", "auprc", "brier")
    found = metric_distributions([METRICS[name] for name in names], target, prediction, drawn)
    for name in names:
        np.testing.assert_array_equal(found[name], metric_distribution(METRICS[name], target, prediction, drawn))


def test_a_resample_without_any_row_is_undefined() -> None:
    empty = Resamples(np.zeros(3, np.int64), np.array([[0, 1]], np.uint16))
    for name in ("auroc", "auprc", "brier"):
        assert np.isnan(metric_distribution(METRICS[name], np.array([0.0, 1, 1]), np.ones(3), empty)).all()
