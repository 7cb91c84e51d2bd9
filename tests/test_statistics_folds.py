"""Tests across folds and blocks: by hand, against published figures, and false findings on nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.statistics.across_folds import corrected_t, sign_flips
from experiments.statistics.ranks import mean_ranks
from experiments.statistics.signed_rank import signed_rank

GAINS = np.array([0.02, 0.03, 0.01, 0.025, 0.015])


def test_the_corrected_t_by_hand() -> None:
    # variance 6.25e-5; of the mean (1/5 + 1/4) of it; t = 0.02 / 0.005303 = 3.771 with 4 degrees of freedom
    span, p = corrected_t(GAINS, 0.25)
    assert p == pytest.approx(2 * stats.t.sf(3.7712362, 4), rel=1e-6)
    assert (span.value, span.high - span.value) == pytest.approx((0.02, 2.7764451 * 0.005303301), rel=1e-6)
    _, uncorrected = corrected_t(GAINS, 0.0)
    assert uncorrected == pytest.approx(stats.ttest_1samp(GAINS, 0).pvalue)
    assert uncorrected < p


def test_nothing_and_what_does_not_vary_is_not_called_certain() -> None:
    assert corrected_t(np.zeros(5), 0.25)[1] == 1.0
    assert np.isnan(corrected_t(np.full(5, 0.1), 0.25)[1])
    assert np.isnan(corrected_t(np.array([0.1]), 0.25)[1])
    assert np.isnan(corrected_t(np.array([0.1, np.nan]), 0.25)[1])
    assert np.isnan(corrected_t(np.array([]), 0.25)[0].value)


def test_sign_flips_count_all_patterns() -> None:
    assert sign_flips(GAINS, 0) == 2 / 32
    assert sign_flips(np.array([1.0, 2.0, -3.0]), 0) == 1.0
    assert sign_flips(np.array([3.0, 2.0, -1.0]), 0) == 4 / 8  # sums of 4 and more: 6, 4
    assert sign_flips(np.zeros(4), 0) == 1.0
    assert sign_flips(np.array([0.5]), 0) == 1.0
    assert np.isnan(sign_flips(np.array([0.5, np.nan]), 0))
    many = np.random.default_rng(0).normal(0.4, 1, 30)
    assert sign_flips(many, 0) == sign_flips(many, 0) == pytest.approx(stats.ttest_1samp(many, 0).pvalue, abs=0.02)


def test_critical_differences_are_the_published_ones() -> None:
    scores = np.random.default_rng(0).random((14, 4))
    found = mean_ranks("abcd", scores, higher_is_better=True)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)  # Demsar 2006, section 3.2.5
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue)


def test_ranks_by_hand_and_who_differs() -> None:
    scores = np.array([[0.9, 0.8, 0.8, 0.1]] * 10)
    found = mean_ranks(("best", "one", "other", "worst"), scores, higher_is_better=True)
    assert list(found.means) == [1.0, 2.5, 2.5, 4.0]
    assert list(mean_ranks("abcd", scores, higher_is_better=False).means) == [4.0, 2.5, 2.5, 1.0]
    assert found.p < 0.001
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(20 / 60), abs=0.001)
    assert found.cliques() == [("one", "other")]
    assert found.pairs[0, 1] < 0.05 < found.pairs[1, 2] == 1.0
    close = mean_ranks("abc", np.array([[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]), higher_is_better=True)
    assert close.cliques() == [("a", "b", "c")]
    assert mean_ranks("abc", np.ones((4, 3)), higher_is_better=True).p == 1.0


@pytest.mark.parametrize("shape", [(5, 2), (1, 4)])
def test_too_little_to_rank_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"at least 3 strategies and 2 blocks; got {shape[1]} and {shape[0]}"):
        mean_ranks("abcd"[: shape[1]], np.ones(shape), higher_is_better=True)
    with pytest.raises(ValueError, match="finite"):
        mean_ranks("abc", np.full((3, 3), np.nan), higher_is_better=True)


def test_practically_equal_lower_or_higher() -> None:
    assert signed_rank(np.full(10, 0.002), 0.01, 0).equal > 0.99
    assert signed_rank(np.full(10, 0.05), 0.01, 0).higher > 0.99
    assert signed_rank(np.full(10, -0.05), 0.01, 0).lower > 0.99
    assert signed_rank(np.full(10, 0.01), 0.01, 0).equal > 0.99  # as large as the region is within it
    unsure = signed_rank(np.array([-0.03, 0.04, -0.01, 0.02, 0.0]), 0.01, 0)
    assert sum(unsure) == pytest.approx(1)
    assert max(unsure) < 0.8
    turned = signed_rank(-GAINS, 0.01, 0)
    assert turned.lower == pytest.approx(signed_rank(GAINS, 0.01, 0).higher, abs=0.02)
    assert np.isnan(signed_rank(np.array([np.nan]), 0.01, 0)).all()


def test_one_difference_is_weighed_against_the_prior_by_hand() -> None:
    # weight w ~ Beta(1, 1/2) on the only difference: the mean of two is above 0.01 unless both are the prior's zero,
    # so "higher" is the largest where 1 - (1 - w)^2 > 1/2, w > 1 - 1/sqrt(2)
    expected = 1 - stats.beta.cdf(1 - np.sqrt(0.5), 1, 0.5)
    assert signed_rank(np.array([0.05]), 0.01, 0, samples=100_000).higher == pytest.approx(expected, abs=0.005)


def test_overlapping_training_sets_do_not_make_findings_of_nothing() -> None:
    # differences that share a part, as folds share training patients: the plain t test finds something far too often
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(1000, 1)) * np.sqrt(0.2)
    runs = shared + rng.normal(size=(1000, 10)) * np.sqrt(0.8)
    corrected = np.mean([corrected_t(each, 0.25)[1] < 0.05 for each in runs])
    plain = np.mean([corrected_t(each, 0.0)[1] < 0.05 for each in runs])
    assert corrected == pytest.approx(0.05, abs=0.02)
    assert plain > 0.15
