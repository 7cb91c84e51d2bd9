"""Attention over a code's ancestors in the ontology."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.table import NodeTable
from encoders.time import TimeEncoding
from fusion.component import Choice, Float
from fusion.layers import masked_softmax
from fusion.tokens import Tokens


class GraphAncestors(nn.Module):
    """Each code is the mean of itself and its ancestors, weighted by how well they fit it.

    A leaf starts at zero, so that one never seen in training is what its ancestors say.

    g_i = sum_j a_ij e_j over j in {i} and its ancestors, a_i = softmax_j(v . tanh(W [e_i; e_j])).

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Choi et al., GRAM: Graph-based Attention Model for Healthcare Representation Learning, 2017 (without the
        co-occurrence pre-training; leaves start at zero).
    """

    preprocessor: ClassVar[type] = CodeGraph
    lineage: Tensor
    real: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        attention: Annotated[int, Choice(16, 32, 64)] = 32,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        lineage, real = preprocessor.lineage()
        self.register_buffer("lineage", lineage, persistent=False)
        self.register_buffer("real", real, persistent=False)
        self.table = NodeTable(preprocessor, dim)
        self.fit = nn.Sequential(nn.Linear(2 * dim, attention), nn.Tanh(), nn.Linear(attention, 1, bias=False))
        self.time, self.drop, self.norm = TimeEncoding(dim), nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, inputs: GraphInputs) -> Tokens:
        """Give each patient's codes their vectors."""
        unique, place = inputs.nodes.unique(return_inverse=True)
        informed = self.inform(unique)[place]
        return Tokens(self.norm(self.drop(informed) + self.time(inputs.days, inputs.mask)), inputs.mask)

    def inform(self, nodes: Tensor) -> Tensor:
        """Mix nodes with their ancestors. Shape: (N,) int64 -> (N, D)."""
        line = self.table(self.lineage[nodes])
        own = line[:, :1].expand_as(line)
        scores = self.fit(torch.cat([own, line], dim=-1)).squeeze(-1)
        return torch.einsum("na,nad->nd", masked_softmax(scores, self.real[nodes]), line)
