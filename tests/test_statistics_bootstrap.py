"""Intervals over resampled patients: against scikit-learn on the same resample, by hand, and by coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from experiments.metrics import METRICS
from experiments.statistics import bootstrap
from experiments.statistics.bootstrap import Resamples, metric_distribution
from experiments.statistics.intervals import interval, two_sided_p


def cohort(rows: int, patients: int, seed: int) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    target = (rng.random(rows) < 0.3).astype(float)
    prediction = np.round(0.3 * target + 0.7 * rng.random(rows), 2)  # rounded, so that there are ties
    return target, prediction, rng.integers(0, patients, rows)


def test_a_resample_takes_all_rows_of_a_patient_together() -> None:
    subject_ids = np.array([7, 7, 7, 900, 900, 31])
    drawn = Resamples.draw(subject_ids, 50, seed=0)
    assert (drawn.counts.sum(1) == 3).all()
    (weights,) = drawn.weights()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 1] == weights[:, 2]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 3, 5]].sum(1) == 3).all()


def test_the_same_seed_draws_the_same_patients_and_another_seed_others() -> None:
    first, again, other = (Resamples.draw(np.arange(40), 20, seed).counts for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_resamples_are_not_tied_to_data_made_with_the_same_seed() -> None:
    # one generator behind both drew no positive at all into the first resample
    for seed in range(5):
        positive = np.random.default_rng(seed).random(100) < 0.15
        drawn = Resamples.draw(np.arange(100), 1, seed).counts[0]
        assert drawn[positive].sum() > 0


@pytest.mark.parametrize(("name", "reference"), [("auroc", "roc_auc_score"), ("auprc", "average_precision_score")])
def test_every_resample_equals_scikit_learn_on_those_rows(name: str, reference: str) -> None:
    target, prediction, subject_ids = cohort(60, 25, seed=1)
    drawn = Resamples.draw(subject_ids, 40, seed=5)
    found = metric_distribution(METRICS[name], target, prediction, drawn)
    for value, counts in zip(found, drawn.counts, strict=True):
        rows = np.repeat(np.arange(60), counts[drawn.patient])
        expected = getattr(sklearn_metrics, reference)(target[rows], prediction[rows])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_vectorised_metrics_equal_the_metric_on_each_resample(name: str) -> None:
    rng = np.random.default_rng(2)
    kind, rows = METRICS[name].kinds[0], 30
    target: Any = {
        "binary": rng.integers(0, 2, rows).astype(float),
        "multiclass": rng.integers(0, 3, rows),
        "multilabel": (rng.random((rows, 3)) < 0.1).astype(float),  # some labels vanish in some resamples
        "regression": rng.normal(size=rows),
    }[kind]
    wide = kind in ("multiclass", "multilabel")
    prediction = np.round(rng.dirichlet(np.ones(3), rows) if wide else rng.random(rows), 1)
    drawn = Resamples.draw(rng.integers(0, 12, rows), 25, seed=0)
    found = metric_distribution(METRICS[name], target, prediction, drawn)
    (weights,) = drawn.weights()
    one_by_one = [METRICS[name](target, prediction, weight) for weight in weights]
    np.testing.assert_allclose(found, one_by_one, atol=1e-12)


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    target, prediction, subject_ids = cohort(50, 50, seed=3)
    drawn = Resamples.draw(subject_ids, 30, seed=0)
    whole = metric_distribution(METRICS["auroc"], target, prediction, drawn)
    monkeypatch.setattr(bootstrap, "_CELLS", 120)  # two resamples at a time
    assert max(len(weights) for weights in drawn.weights()) == 2
    np.testing.assert_array_equal(metric_distribution(METRICS["auroc"], target, prediction, drawn), whole)


def test_a_resample_without_positives_is_undefined_and_left_out_of_the_interval() -> None:
    target, prediction = np.array([1.0, 0.0, 0.0]), np.array([0.9, 0.5, 0.1])
    found = metric_distribution(METRICS["auroc"], target, prediction, Resamples.draw(np.arange(3), 200, 0))
    assert 0 < np.isnan(found).sum() < 200
    span = interval(1.0, found)
    assert (span.low, span.high) == (1.0, 1.0)


def test_an_interval_of_nothing_is_undefined() -> None:
    span = interval(0.5, np.full(10, np.nan))
    assert span.value == 0.5
    assert np.isnan([span.low, span.high]).all()


def test_interval_is_the_middle_95_percent() -> None:
    span = interval(500.0, np.arange(1001.0))
    assert (span.low, span.high) == (25.0, 975.0)


def test_a_bias_of_resampling_is_taken_out_of_the_interval() -> None:
    distribution = np.arange(1001.0)
    span = interval(480.0, distribution)  # a bias of 20 is less than a quarter of the standard error
    assert (span.low, span.high) == (25.0, 975.0)
    span = interval(400.0, distribution)  # one of 100 is more
    assert (span.low, span.high) == (0.0, 875.0)  # and what has no negative values gets none
    span = interval(-400.0, -distribution)
    assert (span.low, span.high) == (-875.0, 75.0)


def test_the_interval_of_the_calibration_error_holds_it() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.random(200)
    target = (rng.random(200) < prediction).astype(float)  # calibrated: resampling makes it look worse
    value = METRICS["ece"](target, prediction)
    found = metric_distribution(METRICS["ece"], target, prediction, Resamples.draw(np.arange(200), 300, 0))
    assert found.mean() > value + 0.25 * found.std()
    span = interval(value, found)
    assert 0 <= span.low <= value <= span.high


def test_two_sided_p_by_hand() -> None:
    # 3 of 99 resamples turn the difference around: 2 * (3 + 1) / (99 + 1)
    difference = np.array([-1.0] * 3 + [1.0] * 96)
    assert two_sided_p(difference) == pytest.approx(0.08)
    assert two_sided_p(-difference) == pytest.approx(0.08)
    assert two_sided_p(np.ones(999)) == pytest.approx(2 / 1000)  # never zero


def test_no_difference_at_all_has_p_one() -> None:
    assert two_sided_p(np.zeros(100)) == 1.0


def test_intervals_cover_the_true_value_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    truth, hits, times = 0.7602, 0, 120  # AUROC of two normal distributions one standard deviation apart
    for run in range(times):
        target = np.repeat([0.0, 1.0], 100)
        prediction = rng.normal(size=200) + target
        drawn = Resamples.draw(np.arange(200), 200, run)
        value = METRICS["auroc"](target, prediction)
        span = interval(value, metric_distribution(METRICS["auroc"], target, prediction, drawn))
        hits += span.low <= truth <= span.high
    assert 0.88 <= hits / times <= 0.99


def test_rows_of_one_patient_do_not_count_as_many_patients() -> None:
    rng = np.random.default_rng(1)
    target = (rng.random(100) < 0.4).astype(float)
    prediction = 0.5 * target + rng.random(100)
    copied = np.repeat(np.arange(100), 9)
    many, one = (
        metric_distribution(METRICS["auroc"], target[rows], prediction[rows], Resamples.draw(rows, 300, 0))
        for rows in (copied, np.arange(100))
    )
    np.testing.assert_allclose(many, one, atol=1e-12)  # copies add no certainty
    naive = Resamples.draw(np.arange(900), 300, 0)
    assert metric_distribution(METRICS["auroc"], target[copied], prediction[copied], naive).std() < one.std() / 2
