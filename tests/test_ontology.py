"""Encoders of the knowledge graph against numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_inputs import NAN, coded, heard_by, inputs_of

from encoders import ENCODERS
from encoders.graph import CodeGraph, GraphAncestors, GraphAttention, GraphConvolution, GraphInputs
from encoders.records import Edge, Knowledge, Record
from fusion import UsageError

ONTOLOGY = Knowledge(
    (
        Edge("ICD//E11.9", "is_a", "ICD//E11"),
        Edge("ICD//E11.2", "is_a", "ICD//E11"),
        Edge("ICD//E11", "is_a", "ICD//E"),
        Edge("ICD//E11", "is_a", "ICD//diabetes"),
        Edge("ICD//diabetes", "is_a", "ICD//E"),
        Edge("DRUG//metformin", "treats", "ICD//E11"),
        Edge("ICD//I10", "is_a", "ICD//I"),
        Edge("ICD//I", "is_a", "ICD//root"),
    )
)
SICK = coded(("ICD//E11.9", 5, NAN))


def lineage_names(graph: CodeGraph, name: str, most: int = 8) -> list[str]:
    line, real = graph.lineage(most)
    return [graph.nodes[i] for i in line[graph.number[name]][real[graph.number[name]]].tolist()]


def test_graph_holds_the_ontology_and_every_ancestor_once_nearest_first() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    assert set(graph.nodes) == {end for edge in ONTOLOGY.edges for end in (edge.head, edge.tail)}
    assert lineage_names(graph, "ICD//E11.9") == ["ICD//E11.9", "ICD//E11", "ICD//E", "ICD//diabetes"]
    assert lineage_names(graph, "ICD//E11.9", most=2) == ["ICD//E11.9", "ICD//E11"]
    assert lineage_names(graph, "DRUG//metformin") == ["DRUG//metformin"], "to treat is not to be"
    leaves = {graph.nodes[i] for i in graph.leaf.nonzero().flatten().tolist()}
    assert leaves == {"ICD//E11.9", "ICD//E11.2", "DRUG//metformin", "ICD//I10"}


def test_graph_takes_edges_both_ways() -> None:
    graph = CodeGraph.fit([SICK], Knowledge((Edge("b", "is_a", "a"), Edge("c", "treats", "a"))))
    assert sorted(graph.edge_index().T.tolist()) == [[0, 1], [0, 2], [1, 0], [2, 0]]
    assert graph.parents == ((1, 0),)


def test_full_graph_keeps_what_training_needs_and_stands_in_for_the_rest() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY, max_nodes=6)
    assert set(graph.nodes) == {
        "ICD//E11.9", "ICD//E11.2", "ICD//E11", "ICD//E", "ICD//diabetes", "DRUG//metformin",
    }  # fmt: skip
    small = CodeGraph.fit([SICK], ONTOLOGY, max_nodes=4)
    assert set(small.nodes) == {"ICD//E11.9", "ICD//E11", "ICD//E", "ICD//diabetes"}
    assert small.node("ICD//E11.2") == small.number["ICD//E11"], "an unseen code is its nearest ancestor"
    assert small.node("ICD//I10") is None


def test_code_outside_the_graph_is_the_longest_node_it_is_spelled_with() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    assert graph.node("ICD//E11.95") == graph.number["ICD//E11.9"]
    assert graph.node("ICD//E11.7") == graph.number["ICD//E11"]
    assert graph.node("ICD//Z99") is None
    assert graph.node("LAB//E11.9") is None, "the vocabulary before // must be the same"
    assert graph.node("ICD") is None


def test_cycles_in_the_ontology_are_tolerated() -> None:
    circle = Knowledge((Edge("a", "is_a", "b"), Edge("b", "is_a", "a"), Edge("c", "is_a", "c")))
    graph = CodeGraph.fit([coded(("a", 1, NAN))], circle)
    assert lineage_names(graph, "a") == ["a", "b"]
    assert lineage_names(graph, "c") == ["c"]
    for name, encoder in ENCODERS["graph"].items():
        inputs = inputs_of(GraphInputs, torch.ones(1, 3, dtype=torch.bool), nodes=torch.tensor([[0, 1, 2]]))
        if name != "artefact":  # it is one of the others, made before
            assert encoder(graph, 4)(inputs).values.isfinite().all()


def test_record_gives_its_distinct_nodes_newest_last() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY, max_codes=2)
    record = coded(("ICD//I10", 9, NAN), ("ICD//E11.9", 5, NAN), ("LAB//x", 4, 1.0), ("ICD//I10", 2, NAN))
    encoded = graph.encode(record)
    assert encoded is not None
    assert [graph.nodes[i] for i in encoded["nodes"]] == ["ICD//E11.9", "ICD//I10"]
    assert encoded["days"].tolist() == [5, 2]
    more = graph.encode(coded(("ICD//E", 8, NAN), ("ICD//E11.9", 5, NAN), ("ICD//E11.95", 3, NAN), ("ICD//I", 1, NAN)))
    assert more is not None
    assert [graph.nodes[i] for i in more["nodes"]] == ["ICD//E11.9", "ICD//I"], "max_codes keeps the newest"
    assert more["days"].tolist() == [3, 1], "E11.95 is the node of E11.9, seen again later"
    assert graph.encode(coded(("LAB//x", 4, 1.0))) is None
    assert graph.encode(Record()) is None


def test_ancestors_are_averaged_by_how_well_they_fit() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAncestors(graph, 4).eval()
    nn.init.zeros_(encoder.fit.weight)  # all fit alike
    line = [graph.number[name] for name in lineage_names(graph, "ICD//E11.2")]
    names = ("ICD//E11.2", "DRUG//metformin", "ICD//diabetes")
    informed = encoder.inform(torch.tensor([graph.number[name] for name in names]))
    vectors = encoder.table.vectors
    torch.testing.assert_close(informed[0], vectors[line].mean(0))
    assert (vectors[line[0]] == 0).all(), "a leaf starts at zero and is what its ancestors say"
    assert (informed[1] == 0).all()
    two = [graph.number["ICD//diabetes"], graph.number["ICD//E"]]
    torch.testing.assert_close(informed[2], vectors[two].mean(0))


def test_siblings_start_alike() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAncestors(graph, 4).eval()
    pair = encoder.inform(torch.tensor([graph.number["ICD//E11.2"], graph.number["ICD//E11.9"]]))
    torch.testing.assert_close(pair[0], pair[1])


def adjacency(graph: CodeGraph) -> Tensor:
    dense = torch.eye(graph.size)
    dense[tuple(graph.edge_index())] = 1.0
    return dense


def node_states(encoder: Any, graph: CodeGraph) -> Tensor:
    """What message passing makes of all nodes, before time is added."""
    inputs = inputs_of(GraphInputs, torch.ones(1, graph.size, dtype=torch.bool), nodes=torch.arange(graph.size)[None])
    return heard_by(encoder.passing.dated.drop, lambda: encoder(inputs))[0]


def start(encoder: Any) -> tuple[Tensor, Tensor]:
    vectors = nn.init.normal_(encoder.passing.table.vectors)
    return vectors, encoder.passing.norms[0](vectors)


@torch.no_grad()
def test_graph_convolution_equals_the_dense_formula() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphConvolution(graph, 4, layers=1).eval()
    vectors, normed = start(encoder)
    near = adjacency(graph)
    root = near.sum(1).rsqrt()
    layer = encoder.passing.layers[0]
    passed = root[:, None] * near * root @ (normed @ layer.lin.weight.T) + layer.bias
    torch.testing.assert_close(node_states(encoder, graph), vectors + nn.functional.gelu(passed))


@torch.no_grad()
def test_graph_attention_equals_the_dense_formula() -> None:
    graph = CodeGraph.fit([SICK], ONTOLOGY)
    encoder = GraphAttention(graph, 4, layers=1, heads=1).eval()
    vectors, normed = start(encoder)
    layer = encoder.passing.layers[0]
    mixed = normed @ layer.lin.weight.T
    scores = (mixed @ layer.att_dst[0, 0])[:, None] + mixed @ layer.att_src[0, 0]
    scores = nn.functional.leaky_relu(scores, 0.2).masked_fill(adjacency(graph) == 0, -torch.inf)
    passed = scores.softmax(1) @ mixed + layer.bias
    torch.testing.assert_close(node_states(encoder, graph), vectors + nn.functional.gelu(passed))


def test_graph_attention_says_that_heads_must_divide_dim() -> None:
    with pytest.raises(UsageError, match=r"dim \(6\) must be divisible by heads \(4\)"):
        GraphAttention(CodeGraph.fit([SICK], ONTOLOGY), 6, heads=4)
