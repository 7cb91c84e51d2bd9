"""Graph encoders and what is known about nodes, against numbers by hand, slow formulas and planted facts."""

from __future__ import annotations

import itertools
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from encoders.graph import (
    GRAPH,
    CodeGraph,
    GraphAncestors,
    GraphConvolution,
    GraphInputs,
    GraphPersonal,
    GraphRelational,
    GraphSweeps,
    GraphTwoStage,
)
from encoders.graph.features import FEATURES, NodeFeatures
from encoders.graph.molecules import substructures
from encoders.graph.neighbourhood import neighbours_of, patient_graphs
from encoders.graph.ontology import climb, group, heights, without_circles
from encoders.graph.passing import EdgeAttention, softmax_at
from encoders.graph.personal import BiAttention
from encoders.graph.sparse import FixedMatrix, normalised_adjacency
from encoders.graph.sweeps import Sweep
from encoders.graph.table import NodeTable
from encoders.graph.triples import PRETRAINING, NodeVectors, TripleModel, train_triples
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Edge, Knowledge, Record
from experiments.data.folder import Dataset
from fusion import UsageError
from fusion.component import Spec, build

# r above p above x and y; d treats p. Numbers: d 0, p 1, r 2, x 3, y 4; relations: is_a 0, treats 1.
FAMILY = Knowledge((Edge("x", "is_a", "p"), Edge("y", "is_a", "p"), Edge("p", "is_a", "r"), Edge("d", "treats", "p")))
D, P, R, X, Y = range(5)
START = torch.tensor([[7.0], [3.0], [11.0], [1.0], [2.0]])

DRUGS = {
    "metformin": "CN(C)C(=N)NC(=N)N",
    "phenformin": "NC(=N)NC(=N)NCCc1ccccc1",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
}
RICH = Knowledge(
    (*(Edge(drug, "is_a", "drugs") for drug in DRUGS), Edge("flu", "is_a", "ills"), Edge("aspirin", "treats", "flu")),
    {"flu": "acute infection", "ills": "any infection", "aspirin": "acid pill", "paracetamol": "pill"},
    DRUGS,
)


def fitted(knowledge: Knowledge, **options: Any) -> CodeGraph:
    return CodeGraph.fit([], knowledge, **options)


def patients(*rows: Sequence[tuple[int, float]]) -> GraphInputs:
    """Inputs from each patient's nodes and days."""
    width = max(1, *(len(row) for row in rows))
    nodes, days = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        for j, (node, when) in enumerate(row):
            nodes[i, j], days[i, j] = node, when
    return GraphInputs(nodes, days, torch.arange(width) < torch.tensor([[len(row)] for row in rows]))


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


# --- a patient's own graph ---


def test_neighbours_are_few_and_parents_first() -> None:
    edges = [Edge(f"c{i}", "is_a", "p") for i in range(5)]
    graph = fitted(Knowledge((*edges, Edge("p", "is_a", "z"), Edge("d", "causes", "p"), Edge("p", "about", "c3"))))
    near = neighbours_of(graph, 3)
    mine = near.nodes[graph.number["p"]][near.mask[graph.number["p"]]].tolist()
    assert [graph.nodes[i] for i in mine] == ["z", "c3", "d"], "what it is, then by relation, its own kinds last"
    assert near.relations[graph.number["p"]].tolist() == [2, 0, 4]
    assert near.mask.sum(1).tolist() == [1, 1, 1, 2, 1, 1, 3, 1]


def messages(graphs: Any) -> set[tuple[int, int, int]]:
    """Messages of one patient by nodes: from, to, relation."""
    parts = (graphs.nodes[graphs.sources], graphs.nodes[graphs.targets], graphs.relations)
    return set(zip(*(part.tolist() for part in parts), strict=True))


def test_graph_of_a_patient_by_hand() -> None:
    graph = fitted(FAMILY)
    near = neighbours_of(graph, 8)
    one = patient_graphs(patients([(X, 9.5), (D, 2.2), (Y, 2.9)]), near, 2, 1)
    assert one.nodes.tolist() == [D, P, X, Y]
    assert one.direct.tolist() == [2, 0, 3]
    assert one.visits.tolist() == [1, 0, 0], "days 2.2 and 2.9 are one visit"
    assert one.ages.tolist() == [0, 1], "the newest visit has age 0"
    around = [set(one.nodes[one.members[one.member_visits == visit]].tolist()) for visit in (0, 1)]
    assert around == [{D, Y, P}, {X, P}]
    assert len(one.members) == 5
    there = {(P, X, 0), (P, Y, 0), (P, D, 1)}
    assert messages(one) == there | {(target, source, kind + 2) for source, target, kind in there}
    far = patient_graphs(patients([(X, 9.5)]), near, 2, 2)
    assert far.nodes.tolist() == [D, P, R, X, Y]
    assert len(messages(far)) == 8


def test_graphs_of_patients_are_apart() -> None:
    near = neighbours_of(fitted(FAMILY), 8)
    both = patient_graphs(patients([(X, 1.0)], [], [(X, 7.0), (P, 3.0)]), near, 2, 1)
    assert both.owners.tolist() == [0, 0, 2, 2, 2, 2, 2]
    assert both.nodes.tolist() == [P, X, D, P, R, X, Y]
    assert (both.owners[both.sources] == both.owners[both.targets]).all()
    assert both.ages.tolist() == [0, 0, 1]
    assert len(both.sources) == 2 + 8, "x - p is met from both ends and is still one fact"


@torch.no_grad()
def test_weights_of_nodes_by_hand() -> None:
    near = neighbours_of(fitted(FAMILY), 8)
    graphs = patient_graphs(patients([(X, 9.0), (Y, 2.0)]), near, 2, 1)
    layer = BiAttention(1, decay=0.5)
    nn.init.zeros_(layer.alpha.weight)
    layer.beta.weight.fill_(1.0)
    nn.init.zeros_(layer.beta.bias)
    found = layer.weigh(START[graphs.nodes], graphs).flatten()
    new, old = np.tanh(2.0), np.tanh(1.0) * np.exp(-0.5)  # y is last, so x's visit is one older
    assert graphs.nodes.tolist() == [P, X, Y]
    np.testing.assert_allclose(found.numpy(), [(new + old) / 2, old / 2, new / 2], rtol=1e-6)


@torch.no_grad()
def test_messages_by_hand() -> None:
    near = neighbours_of(fitted(FAMILY), 8)
    graphs = patient_graphs(patients([(R, 1.0)]), near, 2, 1)
    layer = BiAttention(1, decay=0.0)
    for each in (layer.out, layer.relation):
        each.weight.fill_(1.0)
        each.bias.zero_()
    nn.init.zeros_(layer.alpha.weight)  # alpha is a half for p and for r
    nn.init.zeros_(layer.beta.weight)
    layer.beta.bias.fill_(np.arctanh(0.5))  # beta is a half
    layer.epsilon.fill_(1.0)
    links = torch.tensor([[1.0], [9.0], [-2.0], [9.0]])  # is_a speaks 1 * 1, its way back -2 * -2
    found = layer(START[graphs.nodes], links, graphs).flatten()
    assert graphs.nodes.tolist() == [P, R]
    # p hears r by the way back of its own is_a: the message into p from r, met from r, has the relation of p to r
    np.testing.assert_allclose(found.numpy(), [11 / 4 + 1 + 2 * 3, 3 / 4 + 4 + 2 * 11], rtol=1e-6)


def test_decay_favours_recent_visits() -> None:
    torch.manual_seed(0)
    graphs = patient_graphs(patients([(X, 300.0), (D, 1.0)]), neighbours_of(fitted(FAMILY), 8), 2, 1)
    layer, nodes = BiAttention(4, decay=0.0), torch.randn(3, 4)
    even, steep = layer.weigh(nodes, graphs).abs(), BiAttention(4, decay=1.0)
    steep.load_state_dict(layer.state_dict())
    ratio = (steep.weigh(nodes, graphs).abs() / even).flatten()
    assert graphs.nodes.tolist() == [D, P, X]
    torch.testing.assert_close(ratio[[0, 2]], torch.tensor([1.0, np.exp(-1.0)], dtype=torch.float32))


def test_personal_tokens_are_the_graph_and_the_nodes() -> None:
    encoder = GraphPersonal(fitted(FAMILY), 4).eval()
    tokens = encoder(patients([(X, 1.0), (Y, 2.0)], [], [(D, 1.0)]))
    assert tokens.mask.tolist() == [[True, True, True], [False, False, False], [True, True, False]]


# --- what is known about nodes ---


def test_words_of_descriptions_are_those_of_several_nodes() -> None:
    found = NodeFeatures.fit("descriptions", ["flu", "ills", "aspirin", "paracetamol"], RICH)
    assert found.names == ("infection", "pill")
    assert found.rows == ((0,), (0,), (1,), (1,))
    bare = NodeFeatures.fit("descriptions", ["ICD//E11", "ICD//E12"], Knowledge())
    assert bare.names == ("e", "icd"), "without a description, the spelling says where a code belongs"


def test_an_unseen_leaf_has_a_vector_by_its_description() -> None:
    graph = fitted(RICH, features="descriptions")
    table = NodeTable(graph, 4, features="descriptions")
    aspirin, paracetamol, metformin = (graph.number[name] for name in ("aspirin", "paracetamol", "metformin"))
    found = table(torch.tensor([[aspirin], [paracetamol]]))
    assert table.described is not None
    word = 1 + graph.features.names.index("pill")
    for each in found[:, 0]:
        torch.testing.assert_close(each, table.described.weight[word])
    assert table.vectors[aspirin].eq(0).all()
    torch.testing.assert_close(table.everything()[[aspirin, paracetamol]], found[:, 0])
    assert NodeTable(graph, 4)(torch.tensor([metformin])).eq(0).all(), "features are added where they are asked for"


def test_molecules_share_substructures() -> None:
    graph = fitted(RICH, features="molecules")
    row = {name: set(graph.features.rows[graph.number[name]]) for name in (*DRUGS, "flu")}
    assert row["flu"] == set()
    alike = len(row["metformin"] & row["phenformin"])
    assert alike > len(row["metformin"] & row["aspirin"]), "both are biguanides"
    assert len(row["aspirin"] & row["paracetamol"]) > len(row["aspirin"] & row["metformin"])
    numbers = [number for each in row.values() for number in each]
    assert all(numbers.count(number) > 1 for number in numbers)


def test_substructures_by_hand() -> None:
    water, again, methane = (substructures([text])[text] for text in ("O", "[OH2]", "C"))
    assert len(water) == len(methane) == 1, "one atom, nothing around it"
    assert water == again != methane
    # CH3, CH2 and OH, each alone and with its bonds; two bonds away there is nothing that one bond has not shown
    assert len(substructures(["CCO"])["CCO"]) == 6
    assert substructures(["OCC"])["OCC"] == substructures(["CCO"])["CCO"], "however the molecule is written"


def test_unreadable_molecule_is_skipped_and_counted(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    broken = Knowledge(RICH.edges, {}, {**DRUGS, "aspirin": "C1CC(", "flu": "", "nowhere": "nonsense"})
    with caplog.at_level(logging.WARNING):
        graph = fitted(broken, features="molecules")
    assert caplog.messages == ["1 of 4 SMILES cannot be read and were skipped"]
    assert graph.features.rows[graph.number["aspirin"]] == ()
    assert capfd.readouterr().err == "", "the parser's own lines"


@pytest.fixture
def without_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rdkit", "rdkit.Chem", "rdkit.Chem.rdFingerprintGenerator", "rdkit.rdBase"):
        monkeypatch.setitem(sys.modules, name, None)


def test_molecules_without_rdkit_say_how_to_get_it(without_rdkit: None) -> None:
    with pytest.raises(UsageError) as raised:
        fitted(RICH, features="molecules")
    assert str(raised.value) == (
        "features 'molecules' needs rdkit; install it with: pip install 'ehrfusion[molecules]'"
    )
    assert fitted(FAMILY, features="molecules").features.names == (), "without molecules there is nothing to read"


def test_prediction_needs_no_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = json.dumps(fitted(RICH, features="molecules").to_dict())
    monkeypatch.setitem(sys.modules, "rdkit", None)
    graph = CodeGraph.from_dict(json.loads(saved))
    assert NodeTable(graph, 4, features="molecules")(torch.tensor([graph.number["aspirin"]])).abs().sum() > 0


@pytest.mark.parametrize("options", [{"features": "description"}, {"pretraining": "trans"}])
def test_unknown_choice_names_the_nearest(options: dict[str, str]) -> None:
    (name, value), nearest = *options.items(), {"features": "descriptions", "pretraining": "transe"}
    with pytest.raises(UsageError) as raised:
        fitted(FAMILY, **options)
    assert str(raised.value) == f"{name}: unknown value '{value}'; did you mean '{nearest[name]}'?"


def test_encoder_that_wants_what_the_graph_was_not_fitted_with_says_so(caplog: pytest.LogCaptureFixture) -> None:
    GraphAncestors(fitted(RICH), 4, features="molecules", pretraining="transe")
    assert caplog.messages == [
        "features 'molecules' adds nothing: the graph was fitted with 'none'",
        "pretraining 'transe' adds nothing: the graph was fitted with 'none'",
    ]


# --- facts before patients ---


def planted() -> tuple[Tensor, Tensor]:
    """Ten groups of drugs treat ten groups of diseases, and which facts are held back."""
    facts = [(10 * g + i, 100 + 10 * g + j, 0) for g, i, j in itertools.product(range(10), repeat=3)]
    mixed = torch.tensor(facts)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    return mixed[:600], mixed[600:]


def mean_reciprocal_rank(model: TripleModel, facts: Tensor, nodes: int) -> float:
    every = facts.unsqueeze(1).repeat(1, nodes, 1)
    every[:, :, 1] = torch.arange(nodes)
    scores = model.score(every)
    own = scores.gather(1, facts[:, 1:2])
    return float((1 / (1 + (scores > own).sum(1))).mean())


@pytest.mark.parametrize("kind", PRETRAINING[1:])
def test_held_back_facts_rank_above_chance(kind: str) -> None:
    known, held_back = planted()
    chance = sum(1 / rank for rank in range(1, 201)) / 200
    trained = mean_reciprocal_rank(train_triples(kind, known, 200, 1), held_back, 200)
    untrained = mean_reciprocal_rank(train_triples(kind, known, 200, 1, epochs=0), held_back, 200)
    assert trained > 3 * chance, (trained, chance)
    assert untrained < 2 * chance, (untrained, chance)


def test_scores_of_facts_by_hand() -> None:
    nodes, links = torch.tensor([[1.0, 2.0], [4.0, 6.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    facts = torch.tensor([[0, 1, 0], [0, 1, 1]])
    assert TripleModel("transe", nodes, links).score(facts).tolist() == [-5.0, 0.0]
    assert TripleModel("distmult", nodes, links).score(facts).tolist() == [0.0, 3 * 4.0 + 4 * 12.0]


@pytest.mark.parametrize("kind", PRETRAINING[1:])
def test_pretraining_is_the_same_each_time_and_moves_no_other_seed(kind: str) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, two = (fitted(RICH, pretraining=kind) for _ in range(2))
    assert torch.random.get_rng_state().equal(before)
    assert one == two
    events = CodeEvents(("aspirin",), np.zeros(1, np.float32), np.full(1, np.nan, np.float32))
    assert CodeGraph.fit([Record(events)], RICH, pretraining=kind) == one, "no patient has a part in it"
    assert CodeGraph.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_pretrained_vectors_are_projected() -> None:
    graph = fitted(RICH, pretraining="transe")
    table = NodeTable(graph, 4, pretraining="transe")
    assert table.project is not None
    flu = graph.number["flu"]
    wanted = table.project.weight @ torch.tensor(graph.vectors.rows[flu])
    torch.testing.assert_close(table(torch.tensor([flu, flu]))[1], wanted)
    torch.testing.assert_close(table.everything()[flu], wanted)
    assert not table.known.requires_grad


def test_no_facts_no_pretraining() -> None:
    assert NodeVectors.fit("transe", (), 0, 0) == NodeVectors("transe")
    graph = fitted(Knowledge(), features="descriptions", pretraining="distmult")
    for encoder in GRAPH.values():
        found = encoder(graph, 4, features="descriptions", pretraining="distmult")(patients([]))
        assert found.values.isfinite().all()


@pytest.mark.parametrize(("features", "pretraining"), list(itertools.product(FEATURES, PRETRAINING)))
@pytest.mark.parametrize("name", list(GRAPH))
def test_every_encoder_learns_from_all_that_is_known(name: str, features: str, pretraining: str) -> None:
    spec = Spec(name, {"features": features, "pretraining": pretraining})
    plan = preparation(GRAPH, "graph", spec)
    assert plan.options == {"features": features, "pretraining": pretraining}
    graph = plan.preprocessor.fit([], RICH, **plan.options)
    torch.manual_seed(0)
    encoder = build(GRAPH, spec, graph, 8)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tokens = encoder(patients([(i, 9.0 - i) for i in range(graph.size)], [], [(1, 2.0)]))
    (tokens.values * torch.randn_like(tokens.values))[tokens.mask].sum().backward()
    table = {id(part): part for part in encoder.modules() if isinstance(part, NodeTable)}
    assert len(table) == 1
    only = next(iter(table.values()))
    assert (only.described is not None, only.project is not None) == (features != "none", pretraining != "none")
    for part, parameter in encoder.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.isfinite().all(), part
        assert parameter.grad.abs().sum() > 0, part


@pytest.mark.parametrize("name", list(GRAPH))
def test_every_encoder_runs_under_deterministic_algorithms(name: str) -> None:
    graph = fitted(RICH, features="descriptions", pretraining="distmult")
    encoder = GRAPH[name](graph, 8, features="descriptions", pretraining="distmult", dropout=0.0)
    inputs = patients([(0, 3.0), (4, 1.0)], [(1, 2.0)])
    torch.use_deterministic_algorithms(True)
    try:
        results = []
        for _ in range(2):
            encoder.zero_grad()
            encoder(inputs).values.square().sum().backward()
            results.append([parameter.grad.clone() for parameter in encoder.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(one.equal(two) for one, two in zip(*results, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", list(GRAPH))
def test_every_encoder_gives_the_same_on_a_gpu(name: str) -> None:
    graph = fitted(RICH, features="descriptions", pretraining="distmult")
    encoder = GRAPH[name](graph, 8, features="descriptions", pretraining="distmult").eval()
    inputs = patients([(0, 3.0), (4, 1.0)], [(1, 2.0)])
    here = encoder(inputs).values
    there = encoder.cuda()(GraphInputs(*(part.cuda() for part in inputs))).values
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4)


# --- molecules in a data folder ---


def write_codes(folder: Path, smiles: pl.Series) -> Dataset:
    (folder / "metadata").mkdir()
    table = pl.DataFrame({"code": ["a", "b"], "description": ["one", None], "smiles": smiles})
    table.write_parquet(folder / "metadata" / "codes.parquet")
    return Dataset(folder)


def test_molecules_are_read_from_the_table_of_codes(tmp_path: Path) -> None:
    assert write_codes(tmp_path, pl.Series(["CCO", None])).knowledge() == Knowledge((), {"a": "one"}, {"a": "CCO"})


def test_a_column_without_any_molecule_is_none(tmp_path: Path) -> None:
    assert write_codes(tmp_path, pl.Series([None, None])).knowledge().smiles == {}


def test_molecules_of_another_type_are_refused(tmp_path: Path) -> None:
    dataset = write_codes(tmp_path, pl.Series([1, 2]))
    with pytest.raises(UsageError) as raised:
        dataset.knowledge()
    path = tmp_path / "metadata" / "codes.parquet"
    assert str(raised.value) == f"{path}: column 'smiles' must be String; got Int64"
