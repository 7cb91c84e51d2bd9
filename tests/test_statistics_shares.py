"""Intervals of shares against scipy's, at 0 and 1, with several rows a patient, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from experiments import scoring
from experiments.statistics.decisions import ALERTS, net_benefit
from experiments.statistics.shares import Among, Bounded, wilson


def alerts(target: list[float], alert: list[bool], subjects: list[int] | None = None) -> dict[str, scoring.Score]:
    ids = np.arange(len(target)) if subjects is None else np.array(subjects)
    return scoring.Tested.of(np.array(target), ids, resamples=300).quantities(ALERTS, np.array(alert))


def test_wilson_is_what_scipy_says() -> None:
    for hits, count in ((0, 10), (1, 10), (7, 30), (30, 30)):
        expected = binomtest(hits, count).proportion_ci(method="wilson")
        assert wilson(hits / count, count) == pytest.approx((expected.low, expected.high))


def test_a_share_of_0_or_1_is_no_certainty() -> None:
    found = alerts([1.0] * 8 + [0.0] * 20, [True] * 8 + [False] * 20)
    for name, hits, count in (("sensitivity", 8, 8), ("specificity", 20, 20), ("ppv", 8, 8), ("npv", 20, 20)):
        expected = binomtest(hits, count).proportion_ci(method="wilson")
        span = found[name].interval
        assert (span.value, span.low, span.high) == pytest.approx((1.0, expected.low, 1.0)), name
    missed = alerts([1.0] * 8 + [0.0] * 20, [False] * 8 + [True] * 20)["sensitivity"].interval
    assert (missed.low, missed.high) == pytest.approx(wilson(0.0, 8))


def test_rows_of_one_patient_that_are_all_alike_count_once() -> None:
    whole = alerts([1.0] * 12, [True] * 12, [0] * 4 + [1] * 4 + [2] * 4)["sensitivity"].interval
    assert whole.low == pytest.approx(wilson(1.0, 3)[0])
    uneven = Among.of(np.ones(5), np.array([0, 0, 0, 1, 2]), Bounded())
    assert (uneven.rows, uneven.patients) == (5, pytest.approx(25 / 11))
    none = alerts([1.0, 0.0], [False, False])["ppv"].interval
    assert np.isnan([none.value, none.low, none.high]).all()


def test_rows_of_a_patient_count_as_many_as_vary_alike() -> None:
    rng = np.random.default_rng(0)
    alike = np.repeat(rng.random(60) < 0.5, 5)
    apart = rng.random(300) < 0.5
    subjects = np.repeat(np.arange(60), 5)
    widths = []
    for alert in (alike, apart):
        tested = scoring.Tested.of(np.ones(300), subjects, resamples=2000)
        span = tested.quantities(ALERTS, alert)["sensitivity"].interval
        widths.append(span.high - span.low)
    for width, count in zip(widths, (60, 300), strict=True):
        low, high = wilson(0.5, count)
        assert width == pytest.approx(high - low, rel=0.15)


def test_a_share_averaged_over_seeds_is_of_its_mean_number_of_rows() -> None:
    seeds = [alerts([1.0, 0.0, 0.0], alert)["ppv"] for alert in ([True, False, False], [True, True, True])]
    mean = scoring.mean_score(seeds)
    assert mean.value == pytest.approx((1 + 1 / 3) / 2)
    assert mean.among is not None
    assert mean.among.rows == 2


def test_a_net_benefit_that_no_resample_changes_may_still_be_another() -> None:
    tested = scoring.Tested.of(np.array([1.0, 0.0] * 10), np.arange(20), resamples=100)
    span = tested.quantities(net_benefit(np.array([0.5])), np.zeros(20))["model 0"].interval
    other = wilson(0.0, 20)[1]
    assert (span.value, span.low, span.high) == pytest.approx((0.0, -other, other))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_intervals_hold_the_truth_nineteen_times_of_twenty(share: float) -> None:
    rng = np.random.default_rng(1)
    held = []
    for _ in range(300):
        tested = scoring.Tested.of(np.ones(40), np.arange(40), resamples=100)
        span = tested.quantities(ALERTS, rng.random(40) < share)["sensitivity"].interval
        held.append(span.low <= share <= span.high)
    assert np.mean(held) > 0.9
