"""Calibration with planted truths: what right risks look like, and what recalibration finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_findings import expit, risks

from experiments import scoring
from experiments.metrics import METRICS
from experiments.statistics.calibration import bins_of, calibration, calibration_curve, equal_mass
from experiments.statistics.logistic import log_odds, logistic
from experiments.statistics.recalibration import RECALIBRATIONS, fitted_temperature, isotonic, platt


def found(target: Any, prediction: Any, resamples: int = 200) -> dict[str, Any]:
    tested = scoring.Tested.of(target, np.arange(len(target)), resamples=resamples)
    return tested.quantities(calibration(bins_of(len(target))), prediction)


def test_right_risks_have_slope_one_and_intercept_zero() -> None:
    target, x = risks(2000)
    mine = found(target, expit(x))
    for name, truth in (("slope", 1.0), ("intercept", 0.0), ("observed_expected", 1.0)):
        span = mine[name].interval
        assert span.low < truth < span.high, name
        assert span.high - span.low < 0.35


def test_risks_too_extreme_or_too_low_are_seen() -> None:
    target, x = risks(2000)
    assert found(target, expit(2 * x))["slope"].interval.high < 0.6
    low = found(target, expit(x - 1))
    assert low["intercept"].interval.low > 0.8
    assert low["observed_expected"].interval.low > 1.2


def test_the_brier_score_is_the_sum_of_its_parts() -> None:
    target, x = risks(300)
    prediction = expit(1.5 * x + 0.3)
    mine = found(target, prediction)
    parts = {name: mine[name] for name in ("reliability", "resolution", "uncertainty", "within_bins")}
    total = sum((-1 if name == "resolution" else 1) * each.value for name, each in parts.items())
    assert total == pytest.approx(mine["brier"].value, abs=1e-12)
    assert mine["brier"].value == pytest.approx(METRICS["brier"](target, prediction))
    resampled = parts["reliability"].distribution - parts["resolution"].distribution
    resampled = resampled + parts["uncertainty"].distribution + parts["within_bins"].distribution
    assert resampled == pytest.approx(mine["brier"].distribution, abs=1e-12)
    assert mine["ece"].value == pytest.approx(METRICS["ece"](target, prediction))
    assert mine["log_loss"].value == pytest.approx(METRICS["log_loss"](target, prediction))


def test_parts_of_the_brier_score_by_hand() -> None:
    # two bins: risks 0.2, 0.2 of outcomes 0, 1 and risks 0.8, 0.8 of outcomes 1, 1
    mine = scoring.Tested.of(np.array([0.0, 1, 1, 1]), np.arange(4), resamples=2).quantities(
        calibration(2), np.array([0.2, 0.2, 0.8, 0.8])
    )
    assert mine["reliability"].value == pytest.approx((0.3**2 + 0.2**2) / 2)
    assert mine["resolution"].value == pytest.approx(0.25**2)
    assert mine["uncertainty"].value == pytest.approx(0.75 * 0.25)
    assert mine["within_bins"].value == pytest.approx(0, abs=1e-12)
    assert mine["ece_equal_mass"].value == pytest.approx((0.3 + 0.2) / 2)
    assert mine["brier"].value == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)


def test_bins_hold_equally_many_and_ties_stay_together() -> None:
    assert np.bincount(equal_mass(np.arange(50) / 50, 5)).tolist() == [10] * 5
    assert len(set(equal_mass(np.full(50, 0.3), 5))) == 1
    assert (bins_of(30), bins_of(90), bins_of(5000)) == (2, 4, 10)
    curve = scoring.Tested.of(np.ones(50), np.arange(50), resamples=2).quantities(
        calibration_curve(5), np.full(50, 0.3)
    )
    assert sorted(str(curve[f"share {i}"].value) for i in range(5)) == ["1.0", "nan", "nan", "nan", "nan"]


def test_one_step_on_a_resample_is_nearly_the_whole_regression() -> None:
    target, x = risks(500)
    prediction = expit(1.4 * x)
    tested = scoring.Tested.of(target, np.arange(500), resamples=40)
    step = tested.quantities(calibration(10), prediction)["slope"].distribution
    whole = []
    for counts in tested.drawn.counts:
        rows = np.repeat(np.arange(500), counts)
        design = np.stack([np.ones(len(rows)), log_odds(prediction[rows])], axis=1)
        whole.append(logistic(design, target[rows])[1])
    assert np.corrcoef(step, whole)[0, 1] > 0.98
    assert np.std(step) == pytest.approx(np.std(whole), rel=0.1)


def test_slopes_that_cannot_be_told_are_nan() -> None:
    target = np.arange(40) % 2.0
    assert np.isnan(found(target, np.where(target > 0, 0.9, 0.1))["slope"].value)  # separated
    assert np.isnan(found(target, np.full(40, 0.3))["slope"].value)  # alike for everybody
    assert found(target, np.full(40, 0.3))["intercept"].value == pytest.approx(np.log(7 / 3))


def test_a_known_temperature_is_found_and_undone() -> None:
    target, x = risks(20_000)
    assert fitted_temperature(target, expit(2.5 * x)) == pytest.approx(2.5, rel=0.06)
    assert fitted_temperature(target, expit(0.5 * x)) == pytest.approx(0.5, rel=0.06)
    for way, fit in RECALIBRATIONS.items():
        again = fit(target[:10_000], expit(2.5 * x[:10_000]))(expit(2.5 * x[10_000:]))
        mine = found(target[10_000:], again, resamples=20)
        assert mine["slope"].value == pytest.approx(1, abs=0.12), way
        assert mine["ece"].value < 0.02, way


def test_recalibration_keeps_finite_what_the_fit_separates() -> None:
    target, risk = np.array([0.0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert platt(target, risk)(risk) == pytest.approx([0.2] * 3 + [0.8] * 3, abs=0.15)
    assert isotonic(target, risk)(risk) == pytest.approx([1 / 8] * 3 + [7 / 8] * 3)
    assert isotonic(np.array([1.0, 0, 1, 1]), np.array([0.1, 0.2, 0.2, 0.9]))(np.array([0.1, 0.2])) == pytest.approx(
        [2 / 3, 2 / 3]
    )
    assert platt(target, np.full(6, 0.2))(np.full(2, 0.2)) == pytest.approx(0.5)  # alike for everybody: moved only
