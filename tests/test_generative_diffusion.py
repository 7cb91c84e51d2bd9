"""The diffusion model learns a joint distribution that is known, answers for what is given, and repeats itself."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.generative.denoiser import Denoiser, noises
from experiments.generative.diffusion import Diffusion, Layout, Training, draw_given, fit_diffusion, loss

LAYOUT = Layout.of(("a", "b", "c", "y"), ("codes", "codes", "codes", "label"))
TINY = Training(steps=400, batch=128, width=32, dropout=0.0)


def cells(count: int, seed: int = 0) -> np.ndarray:
    """Two numbers with a correlation of 0.9, a flag that is there in a fifth, and a label that is the first's sign."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=count)
    second = 0.9 * first + np.sqrt(1 - 0.81) * rng.normal(size=count)
    flag = np.where(rng.random(count) < 0.2, 1.0, -1.0)
    return np.stack([first, second, flag, np.sign(first)], axis=1)


@cache
def learned() -> Diffusion:
    return fit_diffusion(cells(2000), LAYOUT, TINY)


def test_expects_what_the_other_cells_tell() -> None:
    asked = cells(1000, seed=1)
    is_given = np.tile([True, False, True, True], (1000, 1))
    found = learned().expect(asked, is_given)
    error = np.sqrt(np.mean((found[:, 1] - asked[:, 1]) ** 2))
    assert 0.40 < error < 0.70  # who knows the first cell well errs by 0.44, who does not by 1
    np.testing.assert_allclose(found[:, [0, 2, 3]], asked[:, [0, 2, 3]], rtol=1e-6)


def test_draws_have_the_distribution_that_was_learned() -> None:
    found = learned().sample(np.zeros((2000, 4)), np.zeros((2000, 4), bool), seed=1)
    assert abs(np.corrcoef(found[:, 0], found[:, 1])[0, 1] - 0.9) < 0.05
    assert abs(found[:, 0].std() - 1) < 0.15
    assert abs((found[:, 2] > 0).mean() - 0.2) < 0.05
    assert ((found[:, 3] > 0) == (found[:, 0] > 0)).mean() > 0.9


def test_draws_given_a_label_agree_with_it() -> None:
    start, is_given = np.zeros((500, 4)), np.zeros((500, 4), bool)
    start[:, 3], is_given[:, 3] = 1.0, True
    found = learned().sample(start, is_given, seed=1)
    assert (found[:, 3] == 1).all()
    assert (found[:, 0] > 0).mean() > 0.75  # a half without the label


def test_same_seed_same_weights_and_draws() -> None:
    short = Training(steps=20, batch=32, width=16, seed=3)
    one, other = (fit_diffusion(cells(200), LAYOUT, short) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True))
    start, nothing = np.zeros((5, 4)), np.zeros((5, 4), bool)
    np.testing.assert_array_equal(one.sample(start, nothing, 1), other.sample(start, nothing, 1))
    assert not np.array_equal(one.sample(start, nothing, 1), one.sample(start, nothing, 2))


def test_a_row_is_expected_the_same_in_any_company() -> None:
    rows, is_given = cells(6), np.tile(np.arange(4) != 1, (6, 1))
    whole = learned().expect(rows, is_given)
    np.testing.assert_allclose(learned().expect(rows[2:3], is_given[2:3]), whole[2:3], atol=1e-5)


def test_what_is_not_given_is_not_read() -> None:
    rows, is_given = cells(4), np.tile(np.arange(4) != 1, (4, 1))
    spoiled = rows.copy()
    spoiled[:, 1] = np.nan
    np.testing.assert_array_equal(learned().expect(rows, is_given), learned().expect(spoiled, is_given))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_every_row_hides_something_and_groups_hide_together(seed: int, groups: int) -> None:
    names = [f"g{i}" for i in range(groups)] * 2
    layout = Layout.of(names, ["codes"] * len(names))
    found = draw_given(50, layout, torch.Generator().manual_seed(seed))
    assert not found.all(1).any()
    assert found[:, :groups].equal(found[:, groups:])


def test_gradients_reach_every_parameter() -> None:
    network = Denoiser(4, width=16)
    loss(network, torch.randn(64, 4), LAYOUT, torch.Generator().manual_seed(0)).backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in network.parameters())


def test_noise_falls_to_none() -> None:
    found = noises(8)
    assert len(found) == 9
    assert found[-1] == 0
    assert (found.diff() < 0).all()
