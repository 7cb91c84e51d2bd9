"""Fusion strategies against numbers by hand."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from toy_tokens import patient

from fusion import FUSIONS, EarlyFusion, FusionModel, LateFusion, Tokens
from fusion.component import (
    Spec,
    build,
)


@pytest.mark.parametrize("name", FUSIONS)
def test_absent_is_not_a_zero_vector(name: str) -> None:
    torch.manual_seed(0)
    fusion = build(FUSIONS, Spec(name), ["a", "b"], 4).eval()
    model = FusionModel({}, fusion, 4, 1)
    zero, absent = model.predict(fusion(patient(1.0, 0.0))), model.predict(fusion(patient(1.0, None)))
    assert (zero - absent).abs().min() > 1e-4


def test_early_fusion_is_told_who_is_present() -> None:
    fusion = EarlyFusion(["a", "b"], 4).eval()
    nn.init.ones_(fusion.pool.norms["b"].bias)  # even so an absent modality adds zeros
    heard: list[Tensor] = []
    fusion.mix[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    values = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    fusion({**patient(None, None), "a": Tokens(values, torch.tensor([[True]]))})
    assert heard[0].shape == (1, 10)
    torch.testing.assert_close(heard[0][:, :4], functional.layer_norm(values[0], (4,)))
    assert heard[0][0, 4:].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def random_patients(count: int, modalities: str = "abc", dim: int = 4, tokens: int = 3) -> dict[str, Tokens]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: Tokens(torch.randn(count, tokens, dim, generator=generator), torch.ones(count, tokens, dtype=torch.bool))
        for name in modalities
    }


def hide(tokens: dict[str, Tokens], *names: str) -> dict[str, Tokens]:
    return {name: Tokens(t.values, t.mask & (name not in names)) for name, t in tokens.items()}


def late_model(outputs: int = 2) -> FusionModel:
    torch.manual_seed(0)
    model = FusionModel({}, LateFusion(["a", "b", "c"], 4), 4, outputs).eval()
    nn.init.normal_(model.fusion.empty)
    return model


def test_late_weights_are_gates_of_those_present() -> None:
    model, tokens = late_model(), random_patients(5)
    everyone = model.fusion(tokens)
    assert ((everyone.weights > 0) & (everyone.weights < 1)).all()
    without = model.fusion(hide(tokens, "b"))
    assert (without.weights[:, 1] == 0).all()
    torch.testing.assert_close(without.weights[:, [0, 2]], everyone.weights[:, [0, 2]])
    torch.testing.assert_close(without.views[:, [0, 2]], everyone.views[:, [0, 2]])
    nobody = model.fusion(hide(tokens, "a", "b", "c"))
    torch.testing.assert_close(nobody.weights, torch.full((5, 3), 1 / 3))
    assert nobody.views.equal(model.fusion.empty.expand(5, 3, 4))


@pytest.mark.parametrize(
    ("name", "settings", "sums_to_one"),
    [("gated", {"gate": "softmax"}, True), ("gated", {"gate": "sigmoid"}, False), ("stacking", {}, True)],
)
def test_what_is_absent_has_no_weight(name: str, settings: dict[str, Any], sums_to_one: bool) -> None:
    torch.manual_seed(0)
    fusion = FUSIONS[name](["a", "b", "c"], 4, **settings).eval()
    without = fusion(hide(random_patients(5), "b")).weights
    assert (without[:, 1] == 0).all()
    assert (without[:, [0, 2]] > 0).all()
    nobody = fusion(hide(random_patients(5), "a", "b", "c")).weights
    torch.testing.assert_close(nobody, torch.full((5, 3), 1 / 3))
    if sums_to_one:
        torch.testing.assert_close(without.sum(1), torch.ones(5))


def test_late_prediction_is_the_sum_over_modalities() -> None:
    model, tokens = late_model(), random_patients(5)
    alone = [model.predict(model.fusion(hide(tokens, *others))) for others in (("b", "c"), ("a", "c"), ("a", "b"))]
    torch.testing.assert_close(model.predict(model.fusion(tokens)), alone[0] + alone[1] + alone[2])


def mixed_difference(model: FusionModel, one: dict[str, Tokens], other: dict[str, Tokens]) -> Tensor:
    """What a and b say together beyond what each says: zero where logits are a sum. c stays as it is."""
    logits = [
        model.predict(model.fusion({"a": a["a"], "b": b["b"], "c": one["c"]}))
        for a, b in itertools.product((one, other), repeat=2)
    ]
    return (logits[0] - logits[1] - logits[2] + logits[3]).abs()


@pytest.mark.parametrize("name", FUSIONS)
def test_only_additive_fusions_have_no_interaction(name: str) -> None:
    torch.manual_seed(0)
    model = FusionModel({}, build(FUSIONS, Spec(name), ["a", "b", "c"], 4), 4, 1).eval()
    nn.init.normal_(model.head.weight)
    one, other = random_patients(6), {n: Tokens(t.values.flip(0), t.mask) for n, t in random_patients(6).items()}
    absent = hide(other, "a", "b")
    for second in (other, absent):
        if name == "late" or (name == "stacking" and second is other):  # stacking shares weight by who is there
            assert mixed_difference(model, one, second).max() < 1e-5
        else:
            assert mixed_difference(model, one, second).max() > 1e-4


CELLS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def exclusive_or(count: int, seed: int) -> tuple[dict[str, Tokens], Tensor]:
    """Two modalities of one noisy token each; the answer is whether their signs differ. Cells are balanced."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.tensor(CELLS).repeat(count // 4, 1)
    direction = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, -1.0])
    tokens = {
        name: Tokens(
            ((2.0 * bits[:, i] - 1)[:, None] * direction + 0.3 * torch.randn(count, 8, generator=generator))[:, None],
            torch.ones(count, 1, dtype=torch.bool),
        )
        for i, name in enumerate("ab")
    }
    return tokens, (bits[:, 0] != bits[:, 1]).float()


def answers_loss(model: FusionModel, target: Tensor, vectors: Tensor) -> Tensor:
    """The loss of the head's answer to vectors. Shape: (B, S, D) -> (B, S)."""
    wanted = target.unsqueeze(1).expand(vectors.shape[:2])
    return functional.binary_cross_entropy_with_logits(model.head(vectors)[..., 0], wanted, reduction="none")


def train_on(make_data: Any, name: str, steps: int = 200) -> tuple[float, float]:
    """Train a fusion and a head; return accuracy and loss on fresh patients."""
    torch.manual_seed(0)
    fusion = build(FUSIONS, Spec(name), ["a", "b"], 8)
    model = FusionModel({}, fusion, 8, 1)
    tokens, target = make_data(128, seed=0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        fused = model.fusion(tokens)
        value = functional.binary_cross_entropy_with_logits(model.predict(fused)[:, 0], target)
        judge = partial(answers_loss, model, target)
        (value + sum(fused.losses(judge).values(), torch.zeros(()))).backward()
        optimiser.step()
    model.eval()
    tokens, target = make_data(400, seed=1)
    with torch.no_grad():
        logits = model.predict(model.fusion(tokens))[:, 0]
    error = functional.binary_cross_entropy_with_logits(logits, target)
    return float(((logits > 0) == (target > 0)).float().mean()), float(error)


def either(count: int, seed: int) -> tuple[dict[str, Tokens], Tensor]:
    """The control: the answer is whether any of the two is positive, which needs no interaction."""
    tokens, _ = exclusive_or(count, seed)
    return tokens, torch.tensor([max(cell) for cell in CELLS]).repeat(count // 4).float()


@pytest.mark.parametrize("name", [name for name in FUSIONS if name not in ("late", "stacking", "gated")])
def test_fusions_with_interaction_learn_exclusive_or(name: str) -> None:
    accuracy, _ = train_on(exclusive_or, name)
    assert accuracy > 0.95


def test_late_fusion_cannot_learn_exclusive_or() -> None:
    accuracy, error = train_on(exclusive_or, "late")
    assert accuracy < 0.7
    assert error > 0.69, "balanced exclusive or costs a sum of two at least log 2 in expectation"


def test_stacking_and_linear_gates_cannot_learn_exclusive_or() -> None:
    assert train_on(exclusive_or, "stacking")[0] < 0.7
    accuracy, _ = train_on(exclusive_or, "gated", steps=400)
    assert accuracy < 0.8, "a softmax of linear scores picks one of two answers: three cells of four at most"


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_learns_either(name: str) -> None:
    accuracy, _ = train_on(either, name)
    assert accuracy > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_no_late_fusion_at_all_beats_a_coin_at_exclusive_or(seed: int) -> None:
    """By convexity the mean loss of any logits f(a) + g(b) over the four cells is at least log 2."""
    torch.manual_seed(seed)
    model = FusionModel({}, LateFusion(["a", "b"], 4), 4, 1).eval()
    nn.init.normal_(model.head.weight, std=3.0)
    cells = [model.predict(model.fusion(patient(2.0 * a - 1, 2.0 * b - 1))) for a, b in CELLS]
    target = torch.tensor([float(a != b) for a, b in CELLS])
    assert functional.binary_cross_entropy_with_logits(torch.cat(cells)[:, 0], target) >= math.log(2) - 1e-6


def test_cross_attention_summaries_read_their_own_and_then_the_others() -> None:
    torch.manual_seed(0)
    fusion = build(FUSIONS, Spec("cross_attention", {"queries": 1}), ["a", "b"], 4).eval()
    masks: list[Tensor] = []
    for block in (fusion.summarise, *fusion.cross):
        block.register_forward_pre_hook(lambda _, given: masks.append(given[1]))
    tokens = random_patients(1, "ab", tokens=2)
    tokens["b"] = Tokens(tokens["b"].values, torch.tensor([[True, False]]))
    fusion(tokens)
    # keys are a, a, b, b (not real), null
    assert masks[0][0].int().tolist() == [[1, 1, 0, 0, 1], [0, 0, 1, 0, 1]]
    assert masks[1][0].int().tolist() == [[0, 0, 1, 0, 1], [1, 1, 0, 0, 1]]


def test_cross_attention_summaries_of_an_absent_modality_say_nothing() -> None:
    torch.manual_seed(0)
    fusion = build(FUSIONS, Spec("cross_attention", {"queries": 1}), ["a", "b"], 4).eval()
    nn.init.ones_(fusion.norm_states.bias)
    heard: list[Tensor] = []
    fusion.mix[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    fusion(hide(random_patients(1, "ab"), "b"))
    assert (heard[0][0, :4] != 0).all()
    assert heard[0][0, 4:].tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
