"""P values adjusted for how many tests there are."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.statistics.multiple import benjamini_hochberg, holm, over_all_pairs

NAN = float("nan")


def test_holm_by_hand() -> None:
    # 0.01, 0.03, 0.04 times 3, 2, 1 gives 0.03, 0.06, 0.04; the last may not fall below the one before
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_does_not_count_what_is_undefined() -> None:
    first, undefined, second = holm([0.02, float("nan"), 0.5])
    assert (first, second) == pytest.approx((0.04, 0.5))
    assert np.isnan(undefined)


def test_benjamini_hochberg_by_hand_and_undefined_ones_do_not_count() -> None:
    # 0.01, 0.02, 0.04 of three: times 3/1, 3/2, 3/3, and none above the next
    assert benjamini_hochberg([0.04, NAN, 0.01, 0.02]) == pytest.approx([0.04, NAN, 0.03, 0.03], nan_ok=True)
    assert benjamini_hochberg([]) == []
    assert np.isnan(benjamini_hochberg([NAN])).all()
    p = list(np.random.default_rng(0).random(20) ** 3)
    assert all(a <= b for a, b in zip(benjamini_hochberg(p), holm(p), strict=True))


def test_all_pairs_by_hand() -> None:
    # standard errors are 1, 1 and 2 for the pairs (0, 1), (0, 2), (1, 2), which resampling moves apart by as much or 0
    moves = np.array([[0.0, 0, 0, 0], [1, -1, 1, -1], [-1, 1, -1, 1]])
    found = over_all_pairs(np.array([0.0, 1.5, 0.5]), moves)
    # any pair moves 1 standard error in each of 4 resamples: 1.5 apart is never reached, 0.5 always
    assert found[0, 1] == found[1, 0] == pytest.approx(1 / 5)
    assert found[0, 2] == found[1, 2] == pytest.approx(5 / 5)
    assert np.isnan(np.diag(found)).all()


def test_all_pairs_of_independent_strategies_are_tukeys_test() -> None:
    values = np.array([0.0, 2.0, 3.5, 1.0])
    found = over_all_pairs(values, np.random.default_rng(0).normal(size=(4, 20_000)))
    for i in range(4):
        for j in range(i):
            tukey = stats.studentized_range.sf(abs(values[i] - values[j]), 4, np.inf)
            assert found[i, j] == pytest.approx(tukey, abs=0.015)


def test_who_leads_by_chance_is_found_to_lead_as_seldom_as_promised() -> None:
    rng, false = np.random.default_rng(1), 0
    for _ in range(200):
        values, drawn = rng.normal(size=8), rng.normal(size=(8, 300))
        false += bool(np.nanmin(over_all_pairs(values, drawn)) < 0.05)
    assert 0.01 <= false / 200 <= 0.10


def test_equal_undefined_and_certain_pairs() -> None:
    drawn = np.random.default_rng(0).normal(size=(4, 99))
    drawn[1], drawn[2] = drawn[0], NAN
    drawn[3, :9] = NAN  # left out for everybody
    found = over_all_pairs(np.array([0.5, 0.5, 0.7, 9.0]), drawn)
    assert found[0, 1] == 1.0
    assert np.isnan(found[2]).all()
    assert found[0, 3] == pytest.approx(1 / 91)
    apart = over_all_pairs(np.array([0.5, 0.7]), np.stack([drawn[0], drawn[0] + 0.2]))
    assert apart[0, 1] == pytest.approx(1 / 100)
    assert np.isnan(over_all_pairs(np.array([NAN, 0.1]), np.full((2, 5), NAN))).all()
