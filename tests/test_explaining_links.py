"""Attributions along the knowledge graph: open gates change nothing, parts add up, and the planted edges come first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from toy_graphs import FAMILY, P, R, X, Y, fitted, patients

from encoders import ENCODERS
from encoders.graph import GRAPH, CodeGraph, GraphInputs
from encoders.graph.links import Links, ancestor_gates
from encoders.records import Edge, Knowledge
from experiments.explaining.attribution import Unattributable
from experiments.explaining.links import BELOW, attribute_links, explained_by, link_names, reached
from fusion import FUSIONS, FusionModel
from fusion.component import Spec, build

NAMED = pytest.mark.parametrize("name", [name for name in GRAPH if name != "artefact"])  # which is one of the others
LEAVES, DIM = 6, 8


def planted() -> CodeGraph:
    """Families `good` and `bad` with rare leaves, and a family that everybody has, whose leaves say nothing."""
    edges = [
        Edge(f"{family}{leaf}", "is_a", family) for family in ("bad", "good", "other") for leaf in range(2 * LEAVES)
    ]
    return fitted(Knowledge((*edges, Edge("drug", "treats", "other"))))


def people(graph: CodeGraph, offset: int) -> tuple[GraphInputs, torch.Tensor]:
    """Patients with a leaf of one of two families, from one half of its leaves, and one that says nothing."""
    rows = [
        [(graph.number[f"{family}{leaf + offset}"], 1.0), (graph.number[f"other{leaf}"], 1.0)]
        for leaf in range(LEAVES)
        for family in ("good", "bad")
    ]
    return patients(*rows), torch.tensor([0.0, 1.0] * LEAVES)


def network(name: str, graph: CodeGraph) -> FusionModel:
    torch.manual_seed(0)
    encoder = build(ENCODERS["graph"], Spec(name, {"dropout": 0.0}), graph, DIM)
    return FusionModel({"graph": encoder}, FUSIONS["late"](["graph"], DIM, dropout=0.0), DIM, 1)


@NAMED
def test_open_gates_change_nothing_and_shut_ones_do(name: str) -> None:
    graph = planted()
    encoder, (inputs, _) = network(name, graph).eval().encoders["graph"], people(graph, 0)
    count = len(graph.linked) if explained_by(encoder) == "edges" else graph.size
    whole = encoder(inputs)
    torch.testing.assert_close(encoder(inputs, torch.ones(count)).values, whole.values)
    assert (encoder(inputs, torch.zeros(count)).values - whole.values).abs().max() > 1e-3
    torch.testing.assert_close(encoder(inputs).values, whole.values)  # and are gone when they are not asked for


@NAMED
def test_the_planted_edges_come_first_on_leaves_never_trained_on(name: str) -> None:
    graph = planted()
    model, (inputs, target) = network(name, graph), people(graph, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        loss = nn.functional.binary_cross_entropy_with_logits(model({"graph": inputs})[:, 0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    unseen, truth = people(graph, LEAVES)
    with torch.no_grad():
        logits = model({"graph": unseen})[:, 0]
    assert ((logits > 0) == (truth > 0)).all()
    found = attribute_links(model, {"graph": unseen}, graph, 0)
    assert torch.allclose(found.values.sum(1), found.said + found.missed, atol=1e-4)
    assert (found.missed.abs() <= (0.05 * found.said.abs()).clamp(min=0.01) + 1e-5).all()
    kind = explained_by(model.encoders["graph"])
    names, above = link_names(graph, kind), reached(graph, kind, unseen.nodes, unseen.mask)
    values, bad = np.where(above, found.values.numpy(), 0), truth.numpy() > 0
    mine = np.array([place in names and names[place][2] in ("good", "bad") for place in range(values.shape[1])])
    family, rest = values[:, mine], values[:, ~mine]
    apart, others = (part.sum(1)[bad].mean() - part.sum(1)[~bad].mean() for part in (family, rest))
    assert apart > 0.5
    assert apart > 3 * abs(others)  # the parents that decide, not that of everybody


def test_each_pair_has_its_gate_both_ways_and_a_node_keeps_itself() -> None:
    graph = fitted(FAMILY)  # d treats p, p is a r, x and y are p
    assert graph.linked == ((0, P), (P, R), (P, X), (P, Y))
    gates = torch.tensor([0.1, 0.2, 0.3, 0.4])
    one, other = torch.tensor([R, P, X, P, Y]), torch.tensor([P, R, X, 0, P])
    assert Links(graph)(gates, one, other).tolist() == pytest.approx([0.2, 0.2, 1.0, 0.1, 0.4])
    line = torch.tensor([[X, P, R], [R, P, P]])
    assert ancestor_gates(torch.arange(5) / 10, line)[0].tolist() == pytest.approx([1.0, P / 10, R / 10])


def test_edges_are_named_as_facts_and_reached_from_below() -> None:
    graph = fitted(Knowledge((*FAMILY.edges, Edge("d", "causes", "p"))))
    assert list(link_names(graph, "edges").values()) == [
        ("d", "causes and treats", "p"),
        ("p", "is_a", "r"),
        ("x", "is_a", "p"),
        ("y", "is_a", "p"),
    ]
    assert link_names(graph, "ancestors") == {P: (BELOW, "is_a", "p"), R: (BELOW, "is_a", "r")}
    some = patients([(X, 1.0)], [(R, 1.0)], [(P, 1.0)])
    edges = reached(graph, "edges", some.nodes, some.mask).tolist()
    assert edges == [[True, True, True, False], [False] * 4, [True, True, False, False]]
    above = reached(graph, "ancestors", some.nodes, some.mask)
    assert [np.flatnonzero(row).tolist() for row in above] == [[P, R], [], [R]]


def test_an_encoder_without_gates_cannot_be_attributed() -> None:
    class Plain(nn.Module):
        links = None

    model = network("gcn", planted())
    model.encoders["graph"] = Plain()
    with pytest.raises(Unattributable):
        attribute_links(model, {"graph": people(planted(), 0)[0]}, planted(), 0)
