"""The whole network, and hiding modalities from it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy_tokens import NAN

from fusion import EarlyFusion, Fused, FusionModel, Tokens
from fusion.model import drop_modalities

# --- hiding modalities ---


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=20), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_hiding_invents_nothing_and_leaves_one(rows: list[list[bool]], probability: float) -> None:
    has = torch.tensor(rows)
    kept = drop_modalities(has, probability)
    assert not (kept & ~has).any()
    assert kept.any(1).equal(has.any(1))
    if probability == 0:
        assert kept.equal(has)
    if probability == 1:
        assert kept.sum(1).equal(has.any(1).long())


def test_hiding_is_as_frequent_as_asked() -> None:
    torch.manual_seed(0)
    kept = drop_modalities(torch.ones(200_000, 3, dtype=torch.bool), 0.3)
    # each hidden with 0.3, but all three (0.027) never: the luckiest stays, a third of 0.027 for each
    assert (~kept).float().mean(0).tolist() == pytest.approx([0.3 - 0.027 / 3] * 3, abs=0.01)
    assert (kept.sum(1) == 1).float().mean() == pytest.approx(3 * 0.7 * 0.09 + 0.027, abs=0.01)


# --- the whole network ---


class Values(NamedTuple):
    """Inputs of the smallest encoder."""

    values: Tensor
    mask: Tensor


class Spy(nn.Module):
    """An encoder that passes values on and notes which rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[float]] = []
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, inputs: Values) -> Tokens:
        self.seen.append(inputs.values[:, 0, 0].tolist())
        return Tokens(inputs.values * self.scale, inputs.mask)


def rows(*numbers: float | None) -> Values:
    """One token a patient, its number repeated; None is absent, with junk in its place."""
    values = torch.tensor([[[NAN if number is None else number] * 4] for number in numbers])
    return Values(values, torch.tensor([[number is not None] for number in numbers]))


def spied(modality_dropout: float = 0.0) -> FusionModel:
    torch.manual_seed(0)
    return FusionModel({"a": Spy(), "b": Spy()}, EarlyFusion(["a", "b"], 4), 4, 2, modality_dropout).eval()


def seen(model: FusionModel, name: str) -> list[list[float]]:
    return model.encoders[name].seen


def test_encoders_run_on_present_rows_only() -> None:
    model = spied()
    tokens = model.encode({"a": rows(1.0, None, 3.0, None), "b": rows(None, None, None, None)})
    assert seen(model, "a") == [[1.0, 3.0]]
    assert seen(model, "b") == []
    assert tokens["a"].mask.flatten().tolist() == [True, False, True, False]
    assert tokens["a"].values[:, 0, 0].tolist() == [1.0, 0.0, 3.0, 0.0]
    assert tokens["b"].values.shape == (4, 1, 4)
    assert not tokens["b"].mask.any()


def test_encoders_get_everyone_at_once() -> None:
    model = spied()
    model({"a": rows(1.0, 2.0), "b": rows(3.0, 4.0)})
    assert (seen(model, "a"), seen(model, "b")) == ([[1.0, 2.0]], [[3.0, 4.0]])


def test_gradient_comes_back_through_present_rows() -> None:
    model = spied()
    model({"a": rows(1.0, None), "b": rows(None, 2.0)}).sum().backward()
    for encoder in model.encoders.values():
        assert encoder.scale.grad.isfinite().all()
        assert encoder.scale.grad.shape == (4,)


def test_hidden_rows_are_not_encoded_and_only_in_training() -> None:
    model, inputs = spied(modality_dropout=1.0), {"a": rows(1.0, 2.0, 3.0, 4.0), "b": rows(5.0, 6.0, None, 8.0)}
    model(inputs)
    assert (seen(model, "a"), seen(model, "b")) == ([[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0, 8.0]])
    model.train()
    for encoder in model.encoders.values():
        encoder.seen.clear()
    model(inputs)
    assert sum(len(batch) for name in "ab" for batch in seen(model, name)) == 4, "each patient keeps one"
    assert 3.0 in seen(model, "a")[0], "the third has only a"


def test_logits_are_the_heads_answers_weighed() -> None:
    model = FusionModel({}, nn.Identity(), 2, 1)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0, 10.0]]))
        model.head.bias.fill_(0.5)
    fused = Fused(torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[0.25, 0.5]]))
    assert model.predict(fused).tolist() == [[0.25 * 1.5 + 0.5 * 20.5]]
