"""A graph of the patient's own, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from toy_graphs import FAMILY, START, D, P, R, X, Y, fitted, patients

from encoders.graph import (
    GraphPersonal,
)
from encoders.graph.neighbourhood import neighbours_of, patient_graphs
from encoders.graph.personal import BiAttention
from encoders.records import Edge, Knowledge


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
