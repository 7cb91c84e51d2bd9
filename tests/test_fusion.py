"""Fusing: components from signatures, layers and masks by hand, what each strategy can and cannot represent, tasks."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from typing import Annotated, Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fusion import FUSIONS, Criterion, EarlyFusion, Fused, FusionModel, LateFusion, Task, Tokens, UsageError, activate
from fusion.component import (
    Architecture,
    Choice,
    Float,
    Hyperparameter,
    Int,
    Spec,
    build,
    find,
    hyperparameters,
    unknown,
)
from fusion.layers import Attention, AttentionPool, Block, masked_mean, masked_softmax
from fusion.model import drop_modalities
from fusion.tokens import clean, present

NAN = float("nan")


class Part:
    """A component with a hyperparameter of every kind."""

    def __init__(
        self,
        modalities: list[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 6)] = 2,
        rate: Annotated[float, Float(1e-4, 0.1, log=True)] = 0.01,
        pooling: Annotated[str, Choice("mean", "first")] = "mean",
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        frozen: bool = False,
        model: str = "small",
    ) -> None:
        self.given = (modalities, dim, layers, rate, pooling, heads, frozen, model)


class Plain:
    """A component without hyperparameters."""

    def __init__(self, modalities: list[str], dim: int) -> None: ...


PARTS = {"part": Part, "plain": Plain}


# --- components ---


def test_hyperparameters_are_read_from_the_signature() -> None:
    assert hyperparameters(Part) == {
        "layers": Hyperparameter("layers", int, 2, Int(1, 6)),
        "rate": Hyperparameter("rate", float, 0.01, Float(1e-4, 0.1, log=True)),
        "pooling": Hyperparameter("pooling", str, "mean", Choice("mean", "first")),
        "heads": Hyperparameter("heads", int, 2, Choice(1, 2, 4)),
        "frozen": Hyperparameter("frozen", bool, False, None),
        "model": Hyperparameter("model", str, "small", None),
    }
    assert hyperparameters(Plain) == {}


def test_build_gives_places_and_hyperparameters() -> None:
    made = build(PARTS, Spec("part", {"layers": 3, "rate": 1, "frozen": True}), ["codes"], 8)
    assert made.given == (["codes"], 8, 3, 1, "mean", 2, True, "small")


@pytest.mark.parametrize("value", ["late", {"name": "late"}, Spec("late")], ids=["text", "mapping", "spec"])
def test_spec_is_read_from_every_form(value: Any) -> None:
    assert Spec.parse(value) == Spec("late", {})


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key != "name"), st.integers() | st.booleans()))
@settings(max_examples=25, deadline=None)
def test_spec_survives_its_flat_form(params: dict[str, Any]) -> None:
    spec = Spec("late", params)
    assert Spec.parse(json.loads(json.dumps(spec.to_dict()))) == spec


def test_architecture_survives_json() -> None:
    whole = Architecture({"codes": Spec("gru", {"steps": 8}), "notes": Spec("bag")}, Spec("late", {"dropout": 0.2}), 32)
    assert whole.to_dict() == {
        "encoders": {"codes": {"name": "gru", "steps": 8}, "notes": {"name": "bag"}},
        "fusion": {"name": "late", "dropout": 0.2},
        "dim": 32,
    }
    assert Architecture.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Architecture.from_dict({"encoders": {"codes": "gru"}, "fusion": "late"}) == Architecture(
        {"codes": Spec("gru")}, Spec("late"), 64
    )


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (Spec("prat"), "here: unknown component 'prat'; did you mean 'part'?"),
        (Spec("zzz"), "here: unknown component 'zzz'; known: part, plain"),
        (Spec("part", {"layer": 1}), "here: unknown hyperparameter of part 'layer'; did you mean 'layers'?"),
        (Spec("plain", {"layers": 1}), "here: unknown hyperparameter of plain 'layers'; known: none"),
        (Spec("part", {"layers": 2.0}), "here: part.layers must be int; got 2.0"),
        (Spec("part", {"layers": True}), "here: part.layers must be int; got True"),
        (Spec("part", {"rate": True}), "here: part.rate must be float; got True"),
        (Spec("part", {"rate": "1e-3"}), "here: part.rate must be float; got '1e-3'"),
        (Spec("part", {"rate": None}), "here: part.rate must be float; got None"),
        (Spec("part", {"frozen": 1}), "here: part.frozen must be bool; got 1"),
        (Spec("part", {"model": 3}), "here: part.model must be str; got 3"),
        (Spec("part", {"pooling": "man"}), "here: part.pooling: unknown value 'man'; did you mean 'mean'?"),
    ],
)
def test_mistake_in_a_component_is_one_line(spec: Spec, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        find(PARTS, spec, "here")
    assert str(raised.value) == text


def test_mistakes_without_a_place_name_none() -> None:
    assert str(unknown("thing", "x", [])) == "unknown thing 'x'; known: none"
    with pytest.raises(UsageError, match=r"^part.layers must be int; got 'two'$"):
        find(PARTS, Spec("part", {"layers": "two"}))


def test_whole_numbers_are_real_numbers_too() -> None:
    assert find(PARTS, Spec("part", {"rate": 1})) is Part


def test_component_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError) as raised:
        Spec.parse({"layers": 2, "dropout": 0.1})
    assert str(raised.value) == "a component needs a 'name'; got the keys ['dropout', 'layers']"


@pytest.mark.parametrize("value", [None, 5, {"name": 5}, {"name": None}, {"name": "part", 5: 1}], ids=str)
def test_component_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        find(PARTS, Spec.parse(value), "fusion")


SENSELESS: list[tuple[str, dict[str, Any]]] = [
    ("cross_attention", {"heads": 0}),
    ("cross_attention", {"layers": -1}),
    ("cross_attention", {"queries": 0}),
    ("late", {"dropout": 2.0}),
    ("early", {"dropout": NAN}),
]


@pytest.mark.parametrize(("name", "params"), SENSELESS, ids=str)
def test_senseless_value_is_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"fusion: {name}.{next(iter(params))} must be"):
        build(FUSIONS, Spec(name, params), ["codes"], 8, where="fusion")


# --- masks ---


def test_present_looks_through_every_axis() -> None:
    mask = torch.zeros(3, 2, 2, dtype=torch.bool)
    mask[1, 1, 0] = True
    assert present(mask).tolist() == [False, True, False]


def test_clean_zeroes_what_is_not_real() -> None:
    tokens = clean(Tokens(torch.tensor([[[1.0, NAN], [NAN, 2.0]]]), torch.tensor([[False, True]])))
    assert tokens.values[0, 0].tolist() == [0.0, 0.0]
    assert tokens.values[0, 1, 1] == 2.0


def test_masked_softmax_by_hand() -> None:
    scores = torch.tensor([[0.0, math.log(3.0), 50.0], [1.0, 2.0, 3.0], [NAN, 7.0, NAN]])
    mask = torch.tensor([[True, True, False], [False, False, False], [False, True, False]])
    found = masked_softmax(scores, mask)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_masked_mean_by_hand() -> None:
    values = torch.tensor([[[1.0, 4.0], [3.0, 8.0], [NAN, NAN]], [[9.0, 9.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0, 6.0], [0.0, 0.0]]


def test_empty_rows_have_finite_gradients() -> None:
    scores = torch.randn(2, 3, requires_grad=True)
    (masked_softmax(scores, torch.zeros(2, 3, dtype=torch.bool)).sum() + scores.sum() * 0).backward()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_pool_weighs_tokens_by_their_score() -> None:
    pool = AttentionPool(2)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[1.0, 0.0]]))
    values = torch.tensor([[[0.0, 8.0], [math.log(3.0), 4.0], [99.0, 99.0]], [[1.0, 1.0]] * 3])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    torch.testing.assert_close(pool(values, mask), torch.tensor([[0.75 * math.log(3.0), 5.0], [0.0, 0.0]]))


# --- attention ---


def identity(attention: Attention) -> Attention:
    """Queries, keys and values are what comes in."""
    dim = attention.out.in_features
    with torch.no_grad():
        for layer, parts in ((attention.query, 1), (attention.key_value, 2), (attention.out, 1)):
            layer.weight.copy_(torch.eye(dim).repeat(parts, 1))
            layer.bias.zero_()
    return attention


def test_attention_by_hand() -> None:
    attention = identity(Attention(1, heads=1))
    keys = torch.tensor([[[0.0], [math.log(3.0)], [5.0]]])
    mask = torch.tensor([[True, True, False]])
    # scores are query * key / sqrt(1): softmax of 0 and log 3 is 1/4 and 3/4
    found = attention(torch.tensor([[[1.0], [0.0]]]), keys, mask)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.75, 0.5]) * math.log(3.0))


def test_heads_look_apart() -> None:
    attention = identity(Attention(2, heads=2))
    keys = torch.tensor([[[0.0, math.log(3.0)], [math.log(3.0), 0.0]]])
    found = attention(torch.tensor([[[1.0, 0.0]]]), keys, torch.ones(1, 2, dtype=torch.bool))
    # the first head asks 1 and weighs 1/4, 3/4; the second asks 0 and weighs them alike
    torch.testing.assert_close(found[0, 0], torch.tensor([0.75, 0.5]) * math.log(3.0))


@pytest.mark.parametrize("per_query", [False, True])
def test_attention_equals_torch(per_query: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, heads=2), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, keys = torch.randn(3, 4, 8), torch.randn(3, 5, 8)
    mask = torch.rand(3, 4, 5) < 0.5
    mask[..., 0] = True
    if per_query:
        wanted, _ = theirs(queries, keys, keys, attn_mask=(~mask).repeat_interleave(2, dim=0), need_weights=False)
    else:
        mask = mask[:, 0]
        wanted, _ = theirs(queries, keys, keys, key_padding_mask=~mask, need_weights=False)
    torch.testing.assert_close(ours(queries, keys, mask), wanted, rtol=1e-5, atol=1e-6)


def test_attention_to_nothing_is_zero() -> None:
    torch.manual_seed(0)
    attention = Attention(4, heads=2)
    queries, keys = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4)
    mask = torch.ones(2, 3, 5, dtype=torch.bool)
    mask[0, 1] = False  # one query of the first patient
    found = attention(queries, keys, mask)
    assert (found[0, 1] == 0).all()
    assert (found[0, 0] != 0).all()
    assert (attention(queries, keys, torch.zeros(2, 5, dtype=torch.bool)) == 0).all()
    found.sum().backward()
    assert queries.grad is not None
    assert queries.grad.isfinite().all()


def test_attention_drops_out_in_training_only() -> None:
    torch.manual_seed(0)
    attention, x = Attention(4, heads=1, dropout=0.5), torch.randn(1, 6, 4)
    mask = torch.ones(1, 6, dtype=torch.bool)
    assert not attention(x, x, mask).equal(attention(x, x, mask))
    attention.eval()
    assert attention(x, x, mask).equal(attention(x, x, mask))


def test_heads_must_divide_dim() -> None:
    with pytest.raises(UsageError, match=r"^dim \(6\) must be divisible by heads \(4\)$"):
        Attention(6, heads=4)


def test_block_adds_to_what_came_in() -> None:
    torch.manual_seed(0)
    block, x, context = Block(4, heads=2).eval(), torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = torch.ones(2, 5, dtype=torch.bool)
    middle = x + block.attention(block.norm_queries(x), context, mask)
    torch.testing.assert_close(block(x, mask, context), middle + block.feed_forward(block.norm_out(middle)))
    for layer in (block.attention.out, block.feed_forward[3]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert block(x, mask[:, :3]).equal(x)


# --- strategies ---


def patient(*values: float | None, dim: int = 4) -> dict[str, Tokens]:
    """One patient with one token a modality, its value repeated; None is absent."""
    shape = (1, 1, dim)
    return {
        name: Tokens(torch.full(shape, value or 0.0), torch.tensor([[value is not None]]))
        for name, value in zip("abc", values, strict=False)
    }


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


# --- tasks ---

BINARY, CLASSES = Task("binary"), Task("multiclass", ("x", "y", "z"))
LABELS, NUMBER = Task("multilabel", ("x", "y")), Task("regression", center=10.0, scale=4.0)


def test_outputs_by_kind() -> None:
    assert [task.outputs for task in (BINARY, CLASSES, LABELS, NUMBER)] == [1, 3, 2, 1]


@pytest.mark.parametrize("task", [BINARY, CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_task_survives_json(task: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task


LOG3 = math.log(3.0)  # the logit of 3/4


def test_binary_by_hand() -> None:
    logits, target = torch.tensor([[LOG3], [LOG3]]), torch.tensor([1.0, 0.0])
    assert activate(BINARY, logits).flatten().tolist() == pytest.approx([0.75, 0.75])
    assert float(Criterion(BINARY)(logits, target)) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    weighed = Criterion(BINARY, torch.tensor([3.0]))(logits, target)
    assert float(weighed) == pytest.approx(-(3 * math.log(0.75) + math.log(0.25)) / 2)


def test_multiclass_by_hand() -> None:
    logits = torch.log(torch.tensor([[1.0, 2.0, 5.0], [6.0, 1.0, 1.0]]))
    target = torch.tensor([2, 1])
    torch.testing.assert_close(activate(CLASSES, logits), torch.tensor([[0.125, 0.25, 0.625], [0.75, 0.125, 0.125]]))
    assert float(Criterion(CLASSES)(logits, target)) == pytest.approx(-(math.log(0.625) + math.log(0.125)) / 2)
    # weights of the true classes: 1 for z and 3 for y
    weighed = Criterion(CLASSES, torch.tensor([9.0, 3.0, 1.0]))(logits, target)
    assert float(weighed) == pytest.approx(-(math.log(0.625) + 3 * math.log(0.125)) / 2)


def test_multilabel_by_hand() -> None:
    logits, target = torch.tensor([[LOG3, 0.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(activate(LABELS, logits), torch.tensor([[0.75, 0.5]]))
    assert float(Criterion(LABELS)(logits, target)) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    weighed = Criterion(LABELS, torch.tensor([2.0, 7.0]))(logits, target)  # weighs positives of each label
    assert float(weighed) == pytest.approx(-(2 * math.log(0.75) + math.log(0.5)) / 2)


def test_regression_by_hand() -> None:
    logits, target = torch.tensor([[0.5], [-1.0]]), torch.tensor([14.0, 10.0])
    assert activate(NUMBER, logits).flatten().tolist() == [12.0, 6.0]
    # standardised targets are 1 and 0
    assert float(Criterion(NUMBER)(logits, target)) == pytest.approx((0.25 + 1.0) / 2)


@pytest.mark.parametrize("task", [BINARY, CLASSES, LABELS, NUMBER], ids=lambda task: task.kind)
def test_loss_of_half_precision_logits_is_full_precision(task: Task) -> None:
    logits = torch.zeros(2, task.outputs, dtype=torch.bfloat16, requires_grad=True)
    target = torch.zeros(2, 2) if task.kind == "multilabel" else torch.zeros(2)
    found = Criterion(task)(logits, target)
    assert found.dtype == activate(task, logits).dtype == torch.float32
    found.backward()
    assert logits.grad is not None


def test_loss_is_least_at_the_truth() -> None:
    wide = torch.tensor([[9.0], [-9.0]])
    assert Criterion(BINARY)(wide, torch.tensor([1.0, 0.0])) < 1e-3 < Criterion(BINARY)(-wide, torch.tensor([1.0, 0.0]))
    exact = torch.tensor([[1.0]])
    assert Criterion(NUMBER)(exact, torch.tensor([14.0])) == 0
