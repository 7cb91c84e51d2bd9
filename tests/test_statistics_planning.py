"""Variance components and power against simulations in which both are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from experiments.metrics import METRICS
from experiments.statistics.bootstrap import Resamples
from experiments.statistics.delong import delong
from experiments.statistics.power import difference_error, smallest_difference
from experiments.statistics.simulated_power import Assumed, simulate
from experiments.statistics.spread import spread


def means(scores: Any, resamples: Resamples) -> Any:
    """Mean scores of resampled patients. Shape: (S, N) -> (S, R)."""
    return scores @ resamples.counts.T / scores.shape[1]


def test_components_are_those_that_were_planted() -> None:
    rng, patients, seeds = np.random.default_rng(0), 100, 5
    found, values = [], []
    for run in range(150):
        scores = rng.normal(0, 1, patients) + rng.normal(0, 0.2, (seeds, 1)) + rng.normal(0, 2, (seeds, patients))
        each = means(scores, Resamples.draw(np.arange(patients), 200, run))
        found.append(np.square(spread(scores.mean(1), each)))
        values.append(scores.mean())
    patient, seed, both, error = np.mean(found, axis=0)
    assert patient == pytest.approx(1 / patients, rel=0.15)
    assert both == pytest.approx(4 / patients, rel=0.1)
    assert 0.035 <= seed < 0.06  # 0.2 squared; estimates cut at zero are a little high on average
    assert error == pytest.approx(0.01 + 0.08 / seeds, rel=0.15)
    assert np.var(values) == pytest.approx(error, rel=0.25)  # the mean over seeds really varies so much


def test_noise_of_the_patients_is_not_taken_for_a_spread_over_seeds() -> None:
    rng = np.random.default_rng(1)
    seen, found = [], []
    for run in range(30):
        scores = rng.normal(0, 1, 50) + rng.normal(0, 1, (10, 50))  # seeds are all alike
        each = spread(scores.mean(1), means(scores, Resamples.draw(np.arange(50), 200, run)))
        seen.append(np.var(scores.mean(1), ddof=1))
        found.append(each.seeds**2)
    assert np.mean(seen) == pytest.approx(1 / 50, rel=0.2)
    assert np.mean(found) < 0.2 / 50


def test_one_seed_and_undefined_resamples() -> None:
    one = spread(np.array([0.5]), np.array([[0.4, 0.6, np.nan]]))
    assert one.patients == one.error == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert np.isnan([one.seeds, one.both]).all()
    assert np.isnan(spread(np.array([0.5]), np.full((1, 9), np.nan))).all()
    assert np.isnan(spread(np.array([np.nan, 0.5]), np.ones((2, 9)))).all()


def test_the_smallest_difference_is_found_as_often_as_planned() -> None:
    positives, negatives, correlation = 60, 240, 0.5
    gain = smallest_difference(positives, negatives, auroc=0.75, correlation=correlation, power=0.8)
    rng = np.random.default_rng(0)
    target = np.repeat([1.0, 0.0], [positives, negatives])
    shift = np.sqrt(2) * ndtri([[0.75], [0.75 + gain]]) * target
    p_values, differences = [], []
    for _ in range(500):
        scores = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], len(target)).T + shift
        span, p = delong(target, scores).difference(np.array([-1.0, 1.0]))
        p_values.append(p)
        differences.append(span.value)
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.8, abs=0.05)
    expected = difference_error(positives, negatives, 0.75, 0.75 + gain, correlation)
    assert np.std(differences) == pytest.approx(expected, rel=0.1)


def test_more_patients_and_more_alike_predictions_show_smaller_differences() -> None:
    few, many = (smallest_difference(n, 4 * n) for n in (30, 300))
    alike = smallest_difference(30, 120, correlation=0.9)
    strict = smallest_difference(30, 120, level=0.05 / 7)
    assert many < alike < few < strict
    assert many == pytest.approx(few / np.sqrt(10), rel=0.2)
    assert np.isnan(smallest_difference(3, 3)), "no difference would do"


def test_simulated_power_is_that_of_the_formula_where_there_is_one() -> None:
    target = np.repeat([1.0, 0.0], [60, 240])
    found = simulate(METRICS["auroc"], "binary", target, np.arange(300), Assumed())
    assert found.value == pytest.approx(0.75, abs=0.01)
    assert found.error == pytest.approx(difference_error(60, 240, 0.75, 0.75, 0.5), rel=0.15)
    gain = found.smallest_difference(power=0.8, level=0.05)
    assert gain == pytest.approx(smallest_difference(60, 240), rel=0.2)


def test_simulated_power_counts_patients_and_not_rows() -> None:
    target, mae = np.random.default_rng(0).normal(size=400), METRICS["mae"]
    once, five = np.arange(400), np.repeat(np.arange(400), 5)
    alone = simulate(mae, "regression", target, once, Assumed())
    rows = simulate(mae, "regression", target[five], five, Assumed())
    assert rows.error == pytest.approx(alone.error, rel=1e-6)
    assert alone.value == pytest.approx(np.sqrt(0.75 * 2 / np.pi), rel=0.05)  # of a normal error
    four = simulate(mae, "regression", np.tile(target, 4), np.arange(1600), Assumed())
    assert four.error == pytest.approx(alone.error / 2, rel=0.2)
    assert simulate(mae, "regression", target, once, Assumed(correlation=0.95)).error < alone.error / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"positives": 0}, "both classes; got 0 positives and 9 negatives"),
        ({"auroc": 0.4}, "auroc must be at least 0.5 and below 1; got 0.4"),
        ({"correlation": 1.0}, "correlation must be between 0 and 1; got 1.0"),
        ({"power": 0.0}, "power must be between 0 and 1; got 0.0"),
    ],
)
def test_impossible_plans_are_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smallest_difference(**{"positives": 9, "negatives": 9, **wrong})
