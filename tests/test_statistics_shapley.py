"""Shapley values and interaction indices: numbers done by hand, and the properties that define them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics.shapley import interactions, players_of, shapley_values

VALUES = st.integers(1, 4).flatmap(
    lambda players: st.lists(st.floats(-10, 10), min_size=2**players, max_size=2**players)
)


def test_two_players_by_hand() -> None:
    # nothing 1, codes 3, notes 2, both 8: codes add 2 to nothing and 6 to notes; notes 1 and 5
    values = np.array([1.0, 3.0, 2.0, 8.0])
    assert shapley_values(values) == pytest.approx([4, 3])
    assert interactions(values) == pytest.approx(np.array([[0, 4], [4, 0]]))


def test_the_glove_game_by_hand() -> None:
    # a left glove and two right ones: a pair is worth 1
    values = np.array([0, 0, 0, 1, 0, 1, 0, 1.0])
    assert shapley_values(values) == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    # rights replace each other beside the left glove only, which is half of the coalitions of others, by size
    assert interactions(values)[1, 2] == pytest.approx(-1 / 2)
    assert interactions(values)[0, 1] == pytest.approx(1 / 2)


@given(VALUES)
def test_values_add_up_to_all_minus_none(values: list[float]) -> None:
    assert shapley_values(np.array(values)).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@given(VALUES, st.floats(-5, 5))
def test_who_adds_the_same_to_every_coalition_gets_that_and_interacts_with_nobody(
    values: list[float], adds: float
) -> None:
    doubled = np.concatenate([values, np.array(values) + adds])  # a last player
    assert shapley_values(doubled)[-1] == pytest.approx(adds, abs=1e-9)
    assert shapley_values(doubled)[:-1] == pytest.approx(shapley_values(np.array(values)), abs=1e-9)
    assert interactions(doubled)[-1] == pytest.approx(0, abs=1e-9)


@given(st.lists(st.floats(-10, 10), min_size=8, max_size=8))
def test_interchangeable_players_get_the_same(values: list[float]) -> None:
    game = np.array(values)
    game[2] = game[1]  # the second alone is the first alone, and with the third
    game[6] = game[5]
    found = shapley_values(game)
    assert found[0] == pytest.approx(found[1], abs=1e-9)
    assert interactions(game)[0, 2] == pytest.approx(interactions(game)[1, 2], abs=1e-9)


def test_a_number_that_is_no_power_of_two_has_no_players() -> None:
    with pytest.raises(ValueError, match="power of two of coalitions; got 6"):
        players_of(6)
