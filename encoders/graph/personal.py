"""A graph of each patient's own: messages weighed by what a visit makes of a node, and by the visit."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.links import Links
from encoders.graph.neighbourhood import Neighbours, PatientGraphs, neighbours_of, patient_graphs
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import softmax_at, sum_at
from encoders.graph.table import DatedNodes, Features, NodeTable, Pretraining
from fusion.component import Choice, Float, Int
from fusion.tokens import Tokens


class BiAttention(nn.Module):
    """One layer of messages: x_i <- ReLU(W (sum_j m_ij + (1 + e) x_i)), m_ij = ReLU(w_j x_j + (W_r r) r).

    A node's weight w_j is the sum, over the visits it is around, of alpha, how much it matters in the visit (softmax
    among the nodes there), times beta, how much the visit matters: tanh(w . v) exp(-decay * age). v is the mean of
    the visit's own nodes; the newest visit of a patient has age 0.

    Shape:
        nodes (P, D), relations (R, D), PatientGraphs, gates of messages (E,) -> (P, D).
    """

    def __init__(self, dim: int, decay: float) -> None:
        super().__init__()
        self.decay, self.epsilon = decay, nn.Parameter(torch.zeros(()))
        self.node, self.visit = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.alpha, self.beta = nn.Linear(dim, 1, bias=False), nn.Linear(dim, 1)
        self.relation, self.out = nn.Linear(dim, 1), nn.Linear(dim, dim)

    def forward(self, nodes: Tensor, relations: Tensor, graphs: PatientGraphs, gates: Tensor | None = None) -> Tensor:
        """Pass one round of messages."""
        weighted = self.weigh(nodes, graphs) * nodes
        spoken = self.relation(relations) * relations
        messages = weighted.index_select(0, graphs.sources) + functional.embedding(graphs.relations, spoken)
        heard = messages.relu() if gates is None else messages.relu() * gates.unsqueeze(1)
        heard = sum_at(heard, graphs.targets, len(nodes))
        return self.out(heard + (1 + self.epsilon) * nodes).relu()

    def weigh(self, nodes: Tensor, graphs: PatientGraphs) -> Tensor:
        """Give each node its weight in its patient's graph. Shape: (P, D) -> (P, 1)."""
        count = len(graphs.ages)
        visits = mean_at(nodes.index_select(0, graphs.direct), graphs.visits, count)
        beta = self.beta(visits).tanh() * torch.exp(-self.decay * graphs.ages).unsqueeze(1)
        mixed = self.node(nodes).index_select(0, graphs.members)
        mixed = mixed + self.visit(visits).index_select(0, graphs.member_visits)
        alpha = softmax_at(self.alpha(mixed.tanh()), graphs.member_visits, count)
        return sum_at(alpha * beta.index_select(0, graphs.member_visits), graphs.members, len(nodes))


class GraphPersonal(nn.Module):
    """Each patient's codes and their neighbours in the knowledge graph, attended by node and by visit.

    The first token is the mean of the patient's graph, the others are the patient's own nodes. A node has up to
    `neighbours` neighbours, what it is a kind of first.

    Shape:
        GraphInputs (B, T) -> Tokens (B, 1 + T, D); gates (L,), one a pair of joined nodes, to explain.

    Reference:
        Jiang et al., GraphCare: Enhancing Healthcare Predictions with Personalized Knowledge Graphs, 2024 (alpha by
        a small network on a node and its visit instead of a matrix as wide as the graph is large; a visit is the
        nodes last seen on one day; each direct node is a token, where the paper takes their mean; the graph is the
        data's own instead of a language model's).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "edges"
    near: Tensor
    near_relation: Tensor
    near_mask: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        hops: Annotated[int, Int(1, 2)] = 1,
        neighbours: Annotated[int, Choice(4, 8, 16)] = 8,
        decay: Annotated[float, Float(0.0, 0.5)] = 0.01,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
    ) -> None:
        super().__init__()
        self.hops, self.relations, self.joined = hops, len(preprocessor.relations), Links(preprocessor)
        nearest = neighbours_of(preprocessor, neighbours)
        for name, part in zip(("near", "near_relation", "near_mask"), nearest, strict=True):
            self.register_buffer(name, part, persistent=False)
        self.table = NodeTable(preprocessor, dim, features, pretraining)
        self.links = nn.Parameter(torch.randn(max(1, 2 * self.relations), dim) * 0.3)
        self.layers = nn.ModuleList(BiAttention(dim, decay) for _ in range(layers))
        self.drop, self.norm, self.dated = nn.Dropout(dropout), nn.LayerNorm(dim), DatedNodes(dim, dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Build each patient's graph, pass messages in it, and read it off."""
        near = Neighbours(self.near, self.near_relation, self.near_mask)
        graphs = patient_graphs(inputs, near, self.relations, self.hops)
        nodes = self.table(graphs.nodes)
        ends = graphs.nodes[graphs.sources], graphs.nodes[graphs.targets]
        messages = None if gates is None else self.joined(gates, *ends)
        for layer in self.layers:
            nodes = layer(self.drop(nodes), self.links, graphs, messages)
        whole = self.norm(mean_at(nodes, graphs.owners, len(inputs.mask))).unsqueeze(1)
        own = nodes.new_zeros(*inputs.mask.shape, nodes.shape[1])
        own[inputs.mask] = nodes.index_select(0, graphs.direct)
        values = torch.cat([whole, self.dated(own, inputs).values], dim=1)
        return Tokens(values, torch.cat([inputs.mask.any(1, keepdim=True), inputs.mask], dim=1))


def mean_at(values: Tensor, place: Tensor, count: int) -> Tensor:
    """Average values that go to the same place; zeros where none does. Shape: (E, D), (E,) int64 -> (count, D)."""
    number = torch.bincount(place, minlength=count).clamp(min=1).unsqueeze(1)
    return sum_at(values, place, count) / number
