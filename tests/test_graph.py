"""Graphs of codes: products, convolution and attention over edges by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy_graphs import FAMILY, START, D, P, R, X, Y, fitted, patients

from encoders.graph import (
    CodeGraph,
    GraphAncestors,
    GraphConvolution,
    GraphRelational,
    GraphSweeps,
    GraphTwoStage,
)
from encoders.graph.ontology import climb, group, heights, without_circles
from encoders.graph.passing import EdgeAttention, softmax_at
from encoders.graph.sparse import FixedMatrix, normalised_adjacency
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


def random_edges(nodes: int, edges: int) -> Tensor:
    """Edges both ways, each once, none of a node to itself."""
    ends = torch.randint(nodes, (2, edges), generator=torch.Generator().manual_seed(0))
    ends = torch.cat([ends, ends.flip(0)], dim=1).unique(dim=1)
    return ends[:, ends[0] != ends[1]]


# --- the graph ---


def test_edges_keep_their_relations() -> None:
    graph = fitted(FAMILY)
    assert graph.nodes == ("d", "p", "r", "x", "y")
    assert graph.relations == ("is_a", "treats")
    assert graph.edges == ((D, P, 1), (P, R, 0), (X, P, 0), (Y, P, 0))
    assert graph.parents == ((P, R), (X, P), (Y, P))
    ends, kinds = graph.typed_edges()
    assert ends.T.tolist() == [[D, P], [P, R], [X, P], [Y, P], [P, D], [R, P], [P, X], [P, Y]]
    assert kinds.tolist() == [1, 0, 0, 0, 3, 2, 2, 2], "the way back is a relation of its own"
    assert CodeGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


def test_two_relations_between_two_nodes_are_two_edges_but_one_way() -> None:
    graph = fitted(Knowledge((Edge("a", "treats", "b"), Edge("a", "about", "b"), Edge("b", "about", "a"))))
    assert graph.edges == ((0, 1, 0), (0, 1, 1), (1, 0, 0))
    assert graph.edge_index().tolist() == [[0, 1], [1, 0]]


def test_edge_to_itself_is_no_message() -> None:
    graph = fitted(Knowledge((Edge("a", "is_a", "a"), Edge("a", "is_a", "b"))))
    assert graph.edge_index().tolist() == [[0, 1], [1, 0]]
    assert graph.typed_edges()[0].tolist() == [[0, 1], [1, 0]]


def test_heights_are_the_longest_way_down() -> None:
    assert heights([(X, P), (Y, P), (P, R), (Y, R)], 5) == [0, 1, 2, 0, 0]


def test_circles_are_cut_where_they_close() -> None:
    assert without_circles([(0, 1), (1, 2), (2, 0), (3, 3), (4, 0)]) == [(0, 1), (1, 2), (4, 0)]


pairs_of_ten = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)


@given(pairs_of_ten)
@settings(deadline=None)
def test_without_circles_has_none_and_loses_nothing_else(pairs: list[tuple[int, int]]) -> None:
    kept = without_circles(pairs)
    level = heights(kept, 10)
    assert all(level[child] < level[parent] for child, parent in kept)
    assert without_circles(reversed(pairs)) == kept
    up = group(kept)
    for child, parent in set(pairs) - set(kept):
        assert child in climb([parent], up), "what was left out would have closed a circle"


# --- sparse products and the convolution ---


def test_fixed_matrix_multiplies_and_its_gradient_is_the_transpose() -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.5, 0.0]])
    rows, columns = dense.nonzero(as_tuple=True)
    mixed = torch.tensor([3, 1, 0, 2])
    matrix = FixedMatrix(rows[mixed], columns[mixed], dense[rows, columns][mixed], (3, 4))
    x = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]], requires_grad=True)
    assert matrix(x).tolist() == [[0.0, 0.0], [0.0, 0.0], [4.5, 45.0]]
    given_back = torch.tensor([[1.0, 0.0], [5.0, 5.0], [0.0, 2.0]])
    matrix(x).backward(given_back)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, dense.T @ given_back)
    wide = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix, (wide,))
    assert not matrix.state_dict(), "a graph belongs to the preprocessor, not to the weights"


def test_fixed_matrix_without_entries_gives_zeros() -> None:
    none = torch.empty(0, dtype=torch.long)
    x = torch.ones(2, 3, requires_grad=True)
    found = FixedMatrix(none, none, torch.empty(0), (4, 2))(x)
    found.sum().backward()
    assert found.tolist() == [[0.0] * 3] * 4
    assert x.grad is not None
    assert not x.grad.any()


def test_adjacency_by_hand() -> None:
    matrix = normalised_adjacency(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)  # 0 - 1 - 2, degrees 2, 3, 2
    root = 6**-0.5
    wanted = torch.tensor([[1 / 2, root, 0], [root, 1 / 3, root], [0, root, 1 / 2]])
    torch.testing.assert_close(matrix(torch.eye(3)), wanted)


def test_convolution_equals_that_of_torch_geometric() -> None:
    from torch_geometric.nn import GCNConv

    from encoders.graph.convolution import Convolution

    edges, size = random_edges(50, 150), 50
    theirs, ours = GCNConv(6, 6), Convolution(6)
    with torch.no_grad():
        nn.init.normal_(theirs.bias)
        ours.lin.weight.copy_(theirs.lin.weight)
        ours.bias.copy_(theirs.bias)
    one, other = (torch.randn(size, 6, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    first, second = ours(one, normalised_adjacency(edges, size)), theirs(other, edges)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    for result in (first, second):
        (result.sin() * torch.randn(size, 6, generator=torch.Generator().manual_seed(2))).sum().backward()
    pairs = ((one, other), (ours.lin.weight, theirs.lin.weight), (ours.bias, theirs.bias))
    for mine, yours in pairs:
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, yours.grad, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_relational_convolution_equals_the_dense_formula() -> None:
    edges = (*FAMILY.edges, Edge("d", "treats", "x"), Edge("y", "treats", "r"))
    graph = fitted(Knowledge(edges))
    encoder = GraphRelational(graph, 4, layers=1, bases=2).eval()
    layer, x = encoder.passing.layers[0], torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    wanted = layer.own(x)
    (source, target), kind = graph.typed_edges()
    for relation in range(4):
        adjacency = torch.zeros(5, 5)
        chosen = kind == relation
        adjacency[target[chosen], source[chosen]] = 1.0
        weight = sum(layer.shares[relation, b] * layer.bases[b] for b in range(2))
        wanted += adjacency / adjacency.sum(1, keepdim=True).clamp(min=1) @ x @ weight
    torch.testing.assert_close(layer(x, encoder.near, encoder.back, encoder.counts), wanted)


@torch.no_grad()
def test_relational_convolution_by_hand() -> None:
    encoder = GraphRelational(fitted(FAMILY), 1, layers=1, bases=2)
    layer = encoder.passing.layers[0]
    layer.own.weight.fill_(1.0)
    layer.own.bias.zero_()
    layer.bases.copy_(torch.tensor([[[1.0]], [[10.0]]]))
    layer.shares.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 2.0]]))
    found = layer(START, encoder.near, encoder.back, encoder.counts)
    # p: itself 3, mean of its kinds x and y 1.5, ten times its drug d, twice what it is a kind of, r
    assert found.flatten().tolist() == [7 + 20 * 3, 3 + 1.5 + 70 + 2 * 11, 11 + 3, 1 + 2 * 3, 2 + 2 * 3]


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


@given(pairs_of_ten)
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


@pytest.mark.parametrize("encoder", [GraphAncestors, GraphTwoStage, GraphSweeps, GraphConvolution])
def test_siblings_start_alike_and_unlike_others(encoder: Any) -> None:
    torch.manual_seed(0)
    found = encoder(fitted(FAMILY), 4).eval()(patients([(X, 1.0), (Y, 1.0), (R, 1.0)])).values[0]
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 0.01
