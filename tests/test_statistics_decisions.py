"""Net benefit, thresholds and conformal sets: six patients by hand, and coverage on simulated ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from toy_findings import expit, risks

from experiments import scoring
from experiments.statistics.conformal import (
    OF_INTERVALS,
    class_sets,
    conformal_quantile,
    coverage_by_chance,
    intervals_around,
    of_sets,
)
from experiments.statistics.decisions import ALERTS, at_sensitivity, at_specificity, net_benefit

TARGET = np.array([1.0, 0, 1, 0, 0, 1])
RISK = np.array([0.9, 0.6, 0.4, 0.3, 0.2, 0.1])
SIX = scoring.Tested.of(TARGET, np.arange(6), resamples=50)


def test_net_benefit_of_six_patients() -> None:
    mine = {name: each.value for name, each in SIX.quantities(net_benefit(np.array([0.25, 0.5])), RISK).items()}
    assert mine["model 0"] == pytest.approx(2 / 6 - 2 / 6 / 3)  # 0.9, 0.6, 0.4 and 0.3 are treated
    assert mine["all 0"] == pytest.approx(3 / 6 - 3 / 6 / 3)
    assert mine["gain 0"] == pytest.approx(mine["model 0"] - mine["all 0"])
    assert mine["model 1"] == pytest.approx(1 / 6 - 1 / 6)
    assert mine["all 1"] == pytest.approx(0)


def test_a_gain_is_over_the_better_of_all_and_none() -> None:
    mine = {name: each.value for name, each in SIX.quantities(net_benefit(np.array([0.8])), RISK).items()}
    assert (mine["model 0"], mine["all 0"]) == pytest.approx((1 / 6, 0.5 - 0.5 * 4))
    assert mine["gain 0"] == pytest.approx(1 / 6)


def test_thresholds_reach_what_was_asked_and_no_more() -> None:
    assert at_sensitivity(TARGET, RISK, 2 / 3) == 0.4
    assert at_sensitivity(TARGET, RISK, 0.9) == 0.1
    limit = at_specificity(TARGET, RISK, 2 / 3)
    assert (limit <= RISK).tolist() == [True, True, True, False, False, False]
    assert (at_specificity(TARGET, RISK, 1.0) <= RISK).tolist() == [True, False, False, False, False, False]


def test_alerts_of_six_patients() -> None:
    mine = {name: each.value for name, each in SIX.quantities(ALERTS, RISK >= 0.3).items()}
    assert mine["sensitivity"] == pytest.approx(2 / 3)
    assert mine["specificity"] == pytest.approx(1 / 3)
    assert mine["ppv"] == pytest.approx(2 / 4)
    assert mine["npv"] == pytest.approx(1 / 2)
    assert mine["alerts_per_100"] == pytest.approx(400 / 6)
    assert math.isnan(SIX.quantities(ALERTS, RISK > 1)["ppv"].value)


def test_the_quantile_counts_the_new_patient() -> None:
    assert conformal_quantile(np.arange(1, 10) / 10, 0.9) == 0.9  # 9 of 9: ceil(10 * 0.9)
    assert conformal_quantile(np.arange(1, 20) / 20, 0.9) == pytest.approx(18 / 20)
    assert conformal_quantile(np.arange(8) / 10, 0.9) == math.inf


def test_sets_hold_the_truth_nine_times_of_ten() -> None:
    coverage, rare = [], []
    for seed in range(60):
        target, x = risks(400, seed)
        both = np.stack([1 - expit(3 * x + 1), expit(3 * x + 1)], axis=1)  # wrong risks must do
        kind = target.astype(np.int64)
        for by_class, into in ((False, coverage), (True, rare)):
            sets = class_sets(kind[:200], both[:200], both[200:], 0.9, by_class=by_class)
            mine = sets[np.arange(200), kind[200:]]
            into.append(mine[kind[200:] == 1].mean() if by_class else mine.mean())
    assert np.mean(coverage) == pytest.approx(0.9, abs=0.012)
    assert np.mean(rare) == pytest.approx(0.9, abs=0.03)


def test_sets_of_three_by_hand() -> None:
    sets = np.array([[True, True], [False, False], [False, True]])
    mine = scoring.Tested.of(np.array([0, 1, 1]), np.arange(3), resamples=2).quantities(of_sets(2), sets)
    assert {name: round(each.value, 3) for name, each in mine.items()} == {
        "coverage": 0.667, "size": 1.0, "empty": 0.333, "single": 0.333, "double": 0.333, "more": 0.0,
        "class 0": 1.0, "class 1": 0.5,
    }  # fmt: skip


def test_intervals_are_as_wide_as_nine_of_ten_errors() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        value, noise = rng.normal(size=400), rng.standard_t(3, 400)
        bounds = intervals_around(value[:200] + noise[:200], value[:200], value[200:], 0.9)
        mine = scoring.Tested.of(value[200:] + noise[200:], np.arange(200), resamples=1).quantities(
            OF_INTERVALS, bounds
        )
        covered.append(mine["coverage"].value)
        assert mine["width"].value == pytest.approx(2 * np.sort(np.abs(noise[:200]))[180], rel=1e-9)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_intervals_of_too_few_patients_have_no_width() -> None:
    bounds = intervals_around(np.zeros(8), np.ones(8), np.zeros(5), 0.9)
    mine = scoring.Tested.of(np.arange(5.0), np.arange(5), resamples=5).quantities(OF_INTERVALS, bounds)
    assert mine["coverage"].value == 1
    assert math.isnan(mine["width"].value)


def test_few_patients_leave_coverage_to_chance() -> None:
    low, high = coverage_by_chance(1000, 0.9)
    assert (low, high) == pytest.approx((0.9 - 1.96 * 0.0095, 0.9 + 1.96 * 0.0095), abs=0.002)
    assert coverage_by_chance(50, 0.9)[0] < 0.82
    assert coverage_by_chance(5, 0.9) == (1.0, 1.0)
