"""Attention over a code's ancestors in the ontology."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.links import ancestor_gates
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.table import DatedNodes, Features, NodeTable, Pretraining
from fusion.component import Choice, Float
from fusion.layers import masked_softmax
from fusion.tokens import Tokens


class GraphAncestors(nn.Module):
    """Each code is the mean of itself and its ancestors, weighted by how well they fit it.

    A leaf starts at zero, so that one never seen in training is what its ancestors say.

    g_i = sum_j a_ij e_j over j in {i} and its ancestors, a_i = softmax_j(v . tanh(W [e_i; e_j])).

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (N,), how far each ancestor is heard below it, to explain.

    Reference:
        Choi et al., GRAM: Graph-based Attention Model for Healthcare Representation Learning, 2017 (without the
        co-occurrence pre-training; leaves start at zero).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "ancestors"
    lineage: Tensor
    real: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        attention: Annotated[int, Choice(16, 32, 64)] = 32,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
    ) -> None:
        super().__init__()
        lineage, real = preprocessor.lineage()
        self.register_buffer("lineage", lineage, persistent=False)
        self.register_buffer("real", real, persistent=False)
        self.table = NodeTable(preprocessor, dim, features, pretraining)
        self.own, self.other = nn.Linear(dim, attention), nn.Linear(dim, attention, bias=False)
        self.fit = nn.Linear(attention, 1, bias=False)
        self.dated = DatedNodes(dim, dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        unique, place = inputs.nodes.unique(return_inverse=True)
        found: Tokens = self.dated(functional.embedding(place, self.inform(unique, gates)), inputs)
        return found

    def inform(self, nodes: Tensor, gates: Tensor | None = None) -> Tensor:
        """Mix nodes with their ancestors. Shape: (N,) int64 -> (N, D)."""
        line, place = self.lineage[nodes].unique(return_inverse=True)  # codes have most ancestors in common
        vectors = self.table(line)
        asked = functional.embedding(place[:, :1], self.own(vectors))
        scores = self.fit((asked + functional.embedding(place, self.other(vectors))).tanh()).squeeze(-1)
        weights = masked_softmax(scores, self.real[nodes]) * ancestor_gates(gates, self.lineage[nodes])
        return torch.einsum("na,nad->nd", weights, functional.embedding(place, vectors))
