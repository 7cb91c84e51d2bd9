"""Encoders that attend along the edges of a graph, or sweep over it, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn
from toy_graphs import FAMILY, PAIRS_OF_TEN, START, D, P, R, X, Y, fitted, patients

from encoders.graph import GraphAncestors, GraphConvolution, GraphSweeps, GraphTwoStage
from encoders.graph.ontology import group, heights, without_circles
from encoders.graph.passing import EdgeAttention, softmax_at
from encoders.graph.sweeps import Sweep
from encoders.records import Edge, Knowledge
from fusion import UsageError


@torch.no_grad()
def indifferent(module: nn.Module) -> None:
    """Make every kind of attention give all it sees the same weight, and every mixing leave things as they are."""
    for each in module.modules():
        if isinstance(each, EdgeAttention):
            nn.init.eye_(each.mix.weight)
            nn.init.zeros_(each.ask)
            nn.init.zeros_(each.answer)
        if isinstance(each, Sweep):
            nn.init.zeros_(each.fit.weight)


# --- attention over edges ---


def test_softmax_at_by_hand() -> None:
    scores = torch.tensor([[0.0], [1000.0], [float(np.log(3.0))], [1000.0]])
    found = softmax_at(scores, torch.tensor([0, 2, 0, 2]), 4)
    torch.testing.assert_close(found, torch.tensor([[0.25], [0.5], [0.75], [0.5]]))


@torch.no_grad()
def test_edge_attention_equals_the_formula() -> None:
    torch.manual_seed(0)
    layer, x = EdgeAttention(4, 2), torch.randn(5, 4)
    nn.init.normal_(layer.bias)
    source, place, own = torch.tensor([1, 3, 4, 0]), torch.tensor([0, 0, 0, 1]), torch.tensor([1, 0])
    found = layer(x, source, place, own)
    for target, edges in ((0, [1, 3, 4]), (1, [0])):
        parts = []
        for head in range(2):
            mixed = x @ layer.mix.weight[2 * head : 2 * head + 2].T
            scores = torch.stack([layer.ask[head] @ mixed[own[target]] + layer.answer[head] @ mixed[j] for j in edges])
            parts.append(nn.functional.leaky_relu(scores, 0.2).softmax(0) @ mixed[edges])
        torch.testing.assert_close(found[target], torch.cat(parts) + layer.bias)


@torch.no_grad()
def test_ancestors_equal_the_formula() -> None:
    torch.manual_seed(0)
    encoder = GraphAncestors(fitted(FAMILY), 4)
    e = nn.init.normal_(encoder.table.vectors)
    for node, line in ((X, [X, P, R]), (P, [P, R]), (D, [D])):
        scores = [encoder.fit((encoder.own(e[node]) + encoder.other(e[j])).tanh()) for j in line]
        wanted = torch.cat(scores).softmax(0) @ e[line]
        torch.testing.assert_close(encoder.inform(torch.tensor([Y, node]))[1], wanted)


@torch.no_grad()
def test_two_stages_by_hand() -> None:
    encoder = GraphTwoStage(fitted(FAMILY), 1, heads=1)
    indifferent(encoder)
    encoder.table.vectors.copy_(START)
    # first p = (3 + 1 + 2) / 3 = 2 and r = (11 + 3) / 2 = 7; then x = (1 + 2 + 7) / 3, p = (2 + 7) / 2
    found = encoder.inform(torch.tensor([D, P, R, X, Y])).flatten()
    torch.testing.assert_close(found, torch.tensor([7.0, 4.5, 7.0, 10 / 3, 11 / 3]))
    for node in range(5):
        torch.testing.assert_close(encoder.inform(torch.tensor([node]))[0], found[node : node + 1])


def test_two_stages_share_their_weights_and_say_that_heads_must_divide_dim() -> None:
    encoder = GraphTwoStage(fitted(FAMILY), 4)
    assert [name for name, _ in encoder.named_parameters() if name.startswith("attention")] == [
        "attention.bias", "attention.ask", "attention.answer", "attention.mix.weight",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"dim \(6\) must be divisible by heads \(4\)"):
        GraphTwoStage(fitted(FAMILY), 6, heads=4)


# --- sweeps up and down ---


@torch.no_grad()
def test_sweeps_by_hand() -> None:
    encoder = GraphSweeps(fitted(FAMILY), 1)
    indifferent(encoder)
    # up: p = (3 + 1 + 2) / 3 = 2, then r = (11 + 2) / 2 = 6.5, leaves stay
    up = encoder.up(START)
    assert up.flatten().tolist() == [7.0, 2.0, 6.5, 1.0, 2.0]
    # down: p = (2 + 6.5) / 2 = 4.25, then x = (1 + 4.25) / 2 and y = (2 + 4.25) / 2; d has no parent
    assert encoder.down(up).flatten().tolist() == [7.0, 4.25, 6.5, 2.625, 3.125]


@torch.no_grad()
def test_sweep_goes_by_the_longest_way() -> None:
    pairs = [(0, 1), (1, 2), (0, 2)]  # 2 has to wait for 1, though 0 leads to it directly
    sweep = Sweep(pairs, 3, 1, 16)
    indifferent(sweep)
    found = sweep(torch.tensor([[4.0], [2.0], [2.0]])).flatten()
    torch.testing.assert_close(found, torch.tensor([4.0, 3.0, 3.0]))


@given(PAIRS_OF_TEN)
@settings(deadline=None, max_examples=30)
def test_sweep_equals_one_node_after_another(pairs: list[tuple[int, int]]) -> None:
    pairs = without_circles(pairs)
    torch.manual_seed(0)
    sweep, x = Sweep(pairs, 10, 4, 16), torch.randn(10, 4)
    givers = group((taker, giver) for giver, taker in pairs)
    slow = list(x)
    with torch.no_grad():
        for node in sorted(givers, key=lambda node: heights(pairs, 10)[node]):
            line = torch.stack([slow[node], *(slow[each] for each in givers[node])])
            scores = sweep.fit((sweep.own(slow[node]) + sweep.other(line)).tanh()).flatten()
            slow[node] = scores.softmax(0) @ line
        torch.testing.assert_close(sweep(x), torch.stack(slow))


def test_the_two_ways_have_weights_of_their_own() -> None:
    encoder = GraphSweeps(fitted(FAMILY), 4)
    assert not encoder.up.own.weight.equal(encoder.down.own.weight)
    assert sum(each.numel() for each in encoder.up.parameters()) == 4 * 32 + 32 + 4 * 32 + 32


def test_a_long_circle_of_parents_ends() -> None:
    ring = Knowledge(tuple(Edge(f"n{i:03d}", "is_a", f"n{(i + 1) % 300:03d}") for i in range(300)))
    graph = fitted(ring)
    assert len(without_circles(graph.parents)) == 299
    assert GraphSweeps(graph, 4)(patients([(5, 1.0)])).values.isfinite().all()


# --- all of them ---


@pytest.mark.parametrize("encoder", [GraphAncestors, GraphTwoStage, GraphSweeps, GraphConvolution])
def test_siblings_start_alike_and_unlike_others(encoder: Any) -> None:
    torch.manual_seed(0)
    found = encoder(fitted(FAMILY), 4).eval()(patients([(X, 1.0), (Y, 1.0), (R, 1.0)])).values[0]
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 0.01
