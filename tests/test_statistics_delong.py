"""DeLong's covariance against its definition, against resampling, and where it cannot be told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.metrics import METRICS
from experiments.statistics.bootstrap import Resamples, metric_distribution
from experiments.statistics.delong import delong

BOTH = np.array([1.0, -1.0])


def cohort(rows: int, seed: int, decimals: int = 1) -> tuple[Any, Any]:
    """Two predictions that share half of their noise, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < 0.3).astype(float)
    shared = rng.normal(size=rows)
    return target, np.round([target + shared + rng.normal(size=rows) for _ in range(2)], decimals)


def test_areas_and_covariance_are_those_of_the_definition() -> None:
    target, predictions = cohort(40, 0)
    found = delong(target, predictions)
    x, y = predictions[:, target == 1], predictions[:, target == 0]
    above = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    expected = np.cov(above.mean(2)) / x.shape[1] + np.cov(above.mean(1)) / y.shape[1]
    np.testing.assert_allclose(found.covariance, expected, atol=1e-14)
    assert found.values == pytest.approx([METRICS["auroc"](target, each) for each in predictions])


def test_standard_errors_are_those_of_resampling() -> None:
    target, predictions = cohort(500, 1, decimals=3)
    found = delong(target, predictions)
    drawn = Resamples.draw(np.arange(500), 2000, 0)
    first, second = (metric_distribution(METRICS["auroc"], target, each, drawn) for each in predictions)
    assert np.sqrt(found.covariance[0, 0]) == pytest.approx(first.std(), rel=0.06)
    span, _ = found.difference(BOTH)
    assert (span.high - span.low) / 3.92 == pytest.approx((first - second).std(), rel=0.06)


def test_copied_rows_of_a_patient_add_no_certainty() -> None:
    target, predictions = cohort(60, 2)
    copies = np.repeat(np.arange(60), 4)
    alone, clustered = delong(target, predictions), delong(target[copies], predictions[:, copies], copies)
    np.testing.assert_allclose(clustered.covariance, alone.covariance, rtol=1e-12)
    naive = delong(target[copies], predictions[:, copies])
    assert naive.covariance[0, 0] < alone.covariance[0, 0] / 3


def test_clusters_with_both_outcomes_have_the_error_of_resampled_patients() -> None:
    rng = np.random.default_rng(3)
    subject_ids = np.repeat(np.arange(200), 5)
    target = (rng.random(1000) < np.repeat(rng.beta(0.5, 0.8, 200), 5)).astype(float)
    prediction = target + np.repeat(rng.normal(size=200), 5) + rng.normal(size=1000)
    found = np.sqrt(delong(target, prediction[None], subject_ids).covariance[0, 0])
    drawn = Resamples.draw(subject_ids, 2000, 0)
    assert found == pytest.approx(metric_distribution(METRICS["auroc"], target, prediction, drawn).std(), rel=0.06)
    assert np.sqrt(delong(target, prediction[None]).covariance[0, 0]) < 0.8 * found


def test_no_difference_of_equal_predictions_and_a_p_value_by_hand() -> None:
    target, predictions = cohort(80, 4)
    span, p = delong(target, predictions[[0, 0]]).difference(BOTH)
    assert (span.value, span.low, span.high, p) == (0.0, 0.0, 0.0, 1.0)
    areas = delong(target, predictions)
    span, p = areas.difference(BOTH)
    z = span.value / np.sqrt(BOTH @ areas.covariance @ BOTH)
    assert p == pytest.approx(2 * (1 - stats.norm.cdf(abs(z))))


def test_what_cannot_be_told_is_nan_and_never_certain() -> None:
    perfect = np.array([[0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]])
    target = np.array([0.0, 0.0, 1.0, 1.0])
    areas = delong(target, perfect)
    assert list(areas.values) == [1.0, 0.5]
    assert np.isnan(areas.interval(np.array([1.0, 0.0])).low)
    assert np.isnan(areas.difference(BOTH)[1])
    one_class = delong(np.zeros(4), perfect)
    assert np.isnan([*one_class.values, one_class.difference(BOTH)[1]]).all()
    one_patient = delong(target, perfect, np.array([1, 2, 3, 3]))
    assert np.isnan(one_patient.interval(np.array([0.0, 1.0])).low)


def test_the_interval_of_an_area_stays_within_0_and_1() -> None:
    target, predictions = cohort(30, 5)
    good = predictions[0] + 2 * target
    span = delong(target, good[None]).interval(np.ones(1))
    assert 0.5 < span.low < span.value < span.high < 1
    assert span.value - span.low > span.high - span.value
