"""Graphs of codes: edges, heights, circles, sparse products and convolutions by hand."""

from __future__ import annotations

import json

import torch
from hypothesis import given, settings
from torch import Tensor, nn
from toy_graphs import FAMILY, PAIRS_OF_TEN, START, D, P, R, X, Y, fitted

from encoders.graph import CodeGraph, GraphRelational
from encoders.graph.ontology import climb, group, heights, without_circles
from encoders.graph.sparse import FixedMatrix, normalised_adjacency
from encoders.records import Edge, Knowledge


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


@given(PAIRS_OF_TEN)
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
