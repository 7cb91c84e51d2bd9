"""Graph convolution over the whole ontology, then the patient's codes are read off."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from encoders.graph.links import Links
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import MessagePassing
from encoders.graph.sparse import normalised_adjacency
from encoders.graph.table import Features, NodeTable, Pretraining
from fusion.component import Float, Int
from fusion.tokens import Tokens


class Convolution(nn.Module):
    """One graph convolution: mix features, then neighbours. Shape: (N, D), adjacency (N, N) -> (N, D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin, self.bias = nn.Linear(dim, dim, bias=False), nn.Parameter(torch.zeros(dim))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, nodes: Tensor, adjacency: Callable[[Tensor], Tensor]) -> Tensor:
        """Convolve."""
        return adjacency(self.lin(nodes)) + self.bias


class GraphConvolution(nn.Module):
    """Graph convolution over the ontology and its other relations, edges taken both ways.

    The graph never changes, so it is normalised once, and a step is a product with a sparse symmetric matrix whose
    gradient is the same product.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (L,), one a pair of joined nodes, to explain.

    Reference:
        Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017 (with residuals).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "edges"

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
        self.joined = Links(preprocessor)
        self.adjacency = normalised_adjacency(preprocessor.edge_index(), preprocessor.size)
        table = NodeTable(preprocessor, dim, features, pretraining)
        self.passing = MessagePassing(table, dim, [Convolution(dim) for _ in range(layers)], dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        whole = self.adjacency if gates is None else self.adjacency.scaled(partial(self.joined, gates))
        found: Tokens = self.passing(inputs, whole)
        return found
