"""What must hold of every fusion in the catalogue."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from toy_contract import (
    DIM,
    NAMES,
    NOBODY,
    PATTERNS,
    assert_gradients_reach,
    assert_same_gradients,
    corners,
    each_junk,
    everything,
    judge,
    moved,
    with_junk,
)

from fusion import FUSIONS, Fused, Tokens
from fusion.component import Spec, build

each_fusion = pytest.mark.parametrize("name", list(FUSIONS))


# --- fusions ---


def make_tokens(names: Sequence[str] = NAMES, times: int = 1) -> dict[str, Tokens]:
    """Tokens of patients with every pattern of missing, each so many times; masks are ragged and have holes."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for place, name in enumerate(names):
        values = torch.randn(times * len(PATTERNS), place + 2, DIM, generator=generator)
        mask = torch.rand(values.shape[:2], generator=generator) < 0.6
        has = torch.tensor([pattern[place] for pattern in PATTERNS] * times)
        mask[torch.arange(len(mask)), torch.randint(place + 2, (len(mask),), generator=generator)] = True
        found[name] = Tokens(values, mask & has.unsqueeze(1))
    return found


def make_fusion(name: str, seed: int = 0, names: Sequence[str] = NAMES, **params: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build(FUSIONS, Spec(name, params), list(names), DIM).eval()


def select(tokens: dict[str, Tokens], rows: Sequence[int]) -> dict[str, Tokens]:
    return {name: Tokens(each.values[list(rows)], each.mask[list(rows)]) for name, each in tokens.items()}


def assert_same(one: Fused, other: Fused) -> None:
    torch.testing.assert_close(one.views, other.views, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("names", [NAMES, NAMES[:1]], ids=["three", "one"])
@each_fusion
def test_fusion_gives_views_and_weights(name: str, names: Sequence[str]) -> None:
    fused = make_fusion(name, names=names)(make_tokens(names))
    assert isinstance(fused, Fused)
    assert fused.views.shape in ((len(PATTERNS), 1, DIM), (len(PATTERNS), len(names), DIM))
    assert fused.weights.shape == fused.views.shape[:2]
    assert fused.views.dtype == fused.weights.dtype == torch.float32
    assert fused.views.isfinite().all()
    assert fused.weights.isfinite().all()
    assert ((fused.weights >= 0) & (fused.weights <= 1)).all()
    assert (fused.weights.sum(1) > 0).all(), "nobody's prediction may come from the nothing"


@each_junk
@each_fusion
def test_fusion_ignores_what_is_behind_the_mask(name: str, junk: float) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    dirty = {each: with_junk(tokens[each], junk) for each in tokens}
    assert_same(fusion(dirty), fusion(tokens))
    first, second = (everything(fusion(each)) for each in (tokens, dirty))
    assert_same_gradients(fusion, first, second)


@each_fusion
def test_fusion_gives_no_gradient_to_what_is_behind_the_mask(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    for each in tokens.values():
        each.values.requires_grad_()
    fused = fusion(tokens)
    everything(fused).backward()
    for each in tokens.values():
        assert each.values.grad is not None
        assert (each.values.grad[~each.mask] == 0).all()
        assert (each.values.grad[each.mask].abs().sum(-1) > 0).all(), "a real token has no influence"


@each_fusion
def test_fusion_follows_the_order_of_patients(name: str) -> None:
    fusion, tokens, order = make_fusion(name), make_tokens(), [5, 2, 7, 0, 3, 6, 1, 4]
    straight = fusion(tokens)
    assert_same(fusion(select(tokens, order)), Fused(straight.views[order], straight.weights[order]))


@each_fusion
def test_fusion_of_one_patient_equals_the_row_of_a_batch(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    batch = fusion(tokens)
    for row in range(len(PATTERNS)):
        assert_same(fusion(select(tokens, [row])), Fused(batch.views[row : row + 1], batch.weights[row : row + 1]))


@each_fusion
def test_more_padding_changes_no_fusion(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    longer = {
        each: Tokens(nn.functional.pad(t.values, (0, 0, 0, 3), value=7.0), nn.functional.pad(t.mask, (0, 3)))
        for each, t in tokens.items()
    }
    assert_same(fusion(longer), fusion(tokens))


@each_fusion
def test_fusion_finds_modalities_by_name(name: str) -> None:
    fusion, tokens = make_fusion(name), make_tokens()
    other = {"unasked": tokens["notes"], **{each: tokens[each] for each in reversed(NAMES)}}
    assert_same(fusion(other), fusion(tokens))


@each_fusion
def test_gradients_reach_every_parameter_of_a_fusion(name: str) -> None:
    fusion = moved(make_fusion(name)).train()
    everything(fusion(make_tokens(times=32))).backward()  # so many, that even the rarest expert is asked
    assert_gradients_reach(fusion)


@each_fusion
def test_losses_of_a_fusion_are_named_numbers(name: str) -> None:
    fusion, nobody = make_fusion(name).train(), select(make_tokens(), [NOBODY, NOBODY])
    for tokens in (make_tokens(), nobody):
        losses = fusion(tokens).losses(judge)
        for kind, value in losses.items():
            assert value.shape == (), kind
            assert value.isfinite(), kind
            assert f"`{kind}`" in (inspect.getdoc(FUSIONS[name]) or ""), f"{kind} is not documented"
    everything(fusion(nobody)).backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None)


@each_fusion
def test_fusion_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    saved, loaded, tokens = make_fusion(name, seed=1), make_fusion(name, seed=2), make_tokens()
    assert not loaded(tokens).views.equal(saved(tokens).views)
    save_file(saved.state_dict(), tmp_path / "weights.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert loaded(tokens).views.equal(saved(tokens).views)
    assert loaded(tokens).weights.equal(saved(tokens).weights)


@each_fusion
def test_same_seed_same_fusion(name: str) -> None:
    first, second = make_fusion(name, seed=3).train(), make_fusion(name, seed=3).train()
    results = []
    for fusion in (first, second):
        torch.manual_seed(4)  # dropout
        results.append(fusion(make_tokens()).views)
    assert results[0].equal(results[1])


@pytest.mark.parametrize(("name", "params"), [(name, each) for name in FUSIONS for each in corners(FUSIONS[name])])
def test_corner_of_the_search_space_of_a_fusion(name: str, params: dict[str, Any]) -> None:
    fusion = moved(make_fusion(name, **params)).train()
    everything(fusion(make_tokens(times=32))).backward()  # so many, that even the rarest expert is asked
    assert_gradients_reach(fusion)
