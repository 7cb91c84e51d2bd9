"""Graph convolution over the whole ontology, then the patient's codes are read off."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import MessagePassing
from encoders.graph.sparse import FixedMatrix, normalised_adjacency
from encoders.graph.table import Features, NodeTable, Pretraining
from fusion.component import Float, Int
from fusion.tokens import Tokens


class Convolution(nn.Module):
    """One graph convolution: mix features, then neighbours. Shape: (N, D), adjacency (N, N) -> (N, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin, self.bias = nn.Linear(dim, dim, bias=False), nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, nodes: Tensor, adjacency: FixedMatrix) -> Tensor:
        """Convolve."""
        return adjacency(self.lin(nodes)) + self.bias


class GraphConvolution(nn.Module):
    """Graph convolution over the ontology and its other relations, edges taken both ways.

    The graph never changes, so it is normalised once, and a step is a product with a sparse symmetric matrix whose
    gradient is the same product.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017 (with residuals).
    """

    preprocessor: ClassVar[type] = CodeGraph

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
    ) -> None:
        super().__init__()
        self.adjacency = normalised_adjacency(preprocessor.edge_index(), preprocessor.size)
        table = NodeTable(preprocessor, dim, features, pretraining)
        self.passing = MessagePassing(table, dim, [Convolution(dim) for _ in range(layers)], dropout)

    def forward(self, inputs: GraphInputs) -> Tokens:
        """Give each patient's codes their vectors."""
        found: Tokens = self.passing(inputs, self.adjacency)
        return found
