"""Scaling laws: planted exponents come back, parabolas have their lowest point, and edges are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.statistics.isoflop import power, valley
from experiments.statistics.scaling import Surface, fit_surface, interval_of, surface_draws

CHINCHILLA = Surface(1.69, 406.4, 410.7, 0.34, 0.28)
SIZES, DATA = (each.ravel() for each in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e7, 1e10, 4)))


@settings(max_examples=15, deadline=None)
@given(alpha=st.floats(0.15, 0.9), beta=st.floats(0.15, 0.9), floor=st.floats(0.0, 3.0))
def test_planted_exponents_come_back(alpha: float, beta: float, floor: float) -> None:
    planted = Surface(floor, 1e6**alpha, 1e7**beta, alpha, beta)
    found = fit_surface(SIZES, DATA, planted.loss(SIZES, DATA))
    assert found.alpha == pytest.approx(alpha, abs=0.02)
    assert found.beta == pytest.approx(beta, abs=0.02)
    assert found.irreducible == pytest.approx(floor, abs=0.02)


def test_intervals_of_noisy_cells_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    loss = CHINCHILLA.loss(SIZES, DATA) * np.exp(rng.normal(0, 0.003, len(SIZES)))
    found = fit_surface(SIZES, DATA, loss)
    draws = surface_draws(SIZES, DATA, loss, found, 40, 0)
    for name in ("alpha", "beta", "irreducible"):
        bounds = interval_of(draws, lambda each, name=name: getattr(each, name))  # type: ignore[misc]
        assert bounds is not None
        low, high = bounds
        assert low < getattr(CHINCHILLA, name) < high
        assert high - low < 0.8
    again = surface_draws(SIZES, DATA, loss, found, 2, 0)
    assert [each.alpha for each in again] == [each.alpha for each in surface_draws(SIZES, DATA, loss, found, 2, 0)]


def test_what_a_model_is_worth_is_where_doubling_either_gains_as_much() -> None:
    same = Surface(1.0, 100.0, 100.0, 0.5, 0.5)
    assert same.worth(1e6) == pytest.approx(1e6)
    assert same.exponents() == (0.5, 0.5)
    of_size, of_data = same.gains(1e4, 1e6)
    assert of_size == pytest.approx(1.0 * (1 - 0.5**0.5))  # 100 / sqrt(10,000) = 1
    assert of_data == pytest.approx(0.1 * (1 - 0.5**0.5))
    assert np.isnan(Surface(1.0, 0.0, 1.0, 0.5, 0.5).worth(1e6))
    assert np.isnan(Surface(1.0, 1.0, 0.0, 0.5, 0.5).worth(1e6))


def test_worth_is_the_best_size_for_its_operations() -> None:
    data = 1e8
    size = CHINCHILLA.worth(data)
    around = size * np.geomspace(0.5, 2, 101)
    assert np.argmin(CHINCHILLA.loss(around, size * data / around)) == 50


def test_too_few_cells_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 6 cells with 3 sizes and 3 amounts of data; got 5 with 5 and 1"):
        fit_surface(SIZES[:5], DATA[:5], np.ones(5))
    with pytest.raises(ValueError, match="every loss must be finite and above 0"):
        fit_surface(SIZES, DATA, np.zeros(len(SIZES)))


def test_the_vertex_of_a_parabola_is_exact() -> None:
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    found = valley(sizes, 2 + 0.1 * (np.log(sizes) - np.log(3e4)) ** 2, draws=20)
    assert found.place == pytest.approx(3e4)
    assert found.loss == pytest.approx(2)
    assert found.draws == pytest.approx(np.full(20, 3e4))
    three = valley(sizes[:3], np.array([2.0, 1.0, 2.0]), draws=20)
    assert three.place == pytest.approx(1e4)
    assert not len(three.draws), "three sizes leave nothing over to draw from"


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ([1.0, 2.0, 4.0, 8.0], "the smallest size tried, 1,000, is the best: try a smaller size"),
        ([4.0, 3.0, 2.5, 2.4], "the largest size tried, 1,000,000, is the best: try a larger size"),
        ([2.0, 1.0, 9.0, 1.5], "losses between size 1,000 and 1,000,000 are no valley"),
    ],
)
def test_a_lowest_point_at_the_edge_is_refused(loss: list[float], said: str) -> None:
    found = valley(np.array([1e3, 1e4, 1e5, 1e6]), np.array(loss))
    assert found.place is None
    assert found.refusal.startswith(said)


def test_exponents_of_the_best_size() -> None:
    budgets, sizes = np.array([1e9, 1e10, 1e11]), np.geomspace(1e2, 1e8, 7)
    places = [valley(sizes, 1 + (np.log(sizes) - np.log(each**0.5)) ** 2, draws=5) for each in budgets]
    found = power(budgets, places)
    assert found is not None
    assert found[0] == pytest.approx(0.5)
    assert found[1] == pytest.approx(np.full(5, 0.5))
    assert power(budgets[:1], places[:1]) is None


def test_a_few_cells_astray_do_not_bend_the_surface() -> None:
    loss = CHINCHILLA.loss(SIZES, DATA)
    loss[[0, 1]] *= 1.2  # two that did not converge
    found = fit_surface(SIZES, DATA, loss)
    assert found.irreducible == pytest.approx(CHINCHILLA.irreducible, rel=0.02)
    assert found.alpha == pytest.approx(CHINCHILLA.alpha, abs=0.02)
    assert found.error == pytest.approx(2 * (1 - 1 / 1.2) / len(loss), rel=0.1), "the mean of what they are off by"
