"""Graph convolution in which each relation has weights of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from encoders.graph.links import Links
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import MessagePassing
from encoders.graph.sparse import FixedMatrix
from encoders.graph.table import Features, NodeTable, Pretraining
from fusion.component import Choice, Float, Int
from fusion.tokens import Tokens


class RelationalConvolution(nn.Module):
    """W_0 h_i + sum over relations r of W_r times the mean of the neighbours by r, W_r = sum_b a_rb V_b.

    `near` gives the mean of a node's neighbours by one relation for each of the P pairs of a relation and a node that
    has it, `back` sums pairs into their nodes: relations a node does not have cost nothing.

    Shape:
        nodes (N, D); near (P, N) and back (N, P) matrices; how many of the P each relation has -> (N, D).
    """

    def __init__(self, dim: int, relations: int, bases: int) -> None:
        super().__init__()
        self.own = nn.Linear(dim, dim)
        self.bases = nn.Parameter(torch.empty(bases, dim, dim))
        self.shares = nn.Parameter(torch.randn(relations, bases) * bases**-0.5)
        for basis in (self.own.weight, *self.bases):
            nn.init.xavier_uniform_(basis)

    def forward(
        self, nodes: Tensor, near: Callable[[Tensor], Tensor], back: FixedMatrix, counts: Sequence[int]
    ) -> Tensor:
        """Convolve."""
        weights = torch.einsum("rb,bde->rde", self.shares, self.bases)
        means = near(nodes).split(list(counts))
        mixed = torch.cat([mean @ weight for mean, weight in zip(means, weights, strict=True)])
        return self.own(nodes) + back(mixed)


class GraphRelational(nn.Module):
    """Graph convolution over the ontology and its other relations, each relation and each inverse with own weights.

    To be a kind of something, to have kinds, to treat and to be treated differ; relations share a few bases, so that
    a rare one has few weights to learn.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (L,), one a pair of joined nodes, to explain.

    Reference:
        Schlichtkrull et al., Modeling Relational Data with Graph Convolutional Networks, 2018 (basis decomposition;
        with residuals, layer normalisation and GELU instead of ReLU).
    """

    hears: Tensor
    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "edges"

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        bases: Annotated[int, Choice(2, 4, 8)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
    ) -> None:
        super().__init__()
        self.joined = Links(preprocessor)
        (source, target), kind = preprocessor.typed_edges()
        directions, size = max(1, 2 * len(preprocessor.relations)), preprocessor.size
        pairs, place, count = (kind * size + target).unique(return_inverse=True, return_counts=True)
        each = torch.arange(len(pairs))
        self.register_buffer("hears", pairs % size, persistent=False)
        self.near = FixedMatrix(place, source, 1 / count[place], (len(pairs), size))
        self.back = FixedMatrix(self.hears, each, torch.ones(len(pairs)), (size, len(pairs)))
        self.counts = torch.bincount(pairs // size, minlength=directions).tolist()
        convolutions = [RelationalConvolution(dim, directions, bases) for _ in range(layers)]
        self.passing = MessagePassing(NodeTable(preprocessor, dim, features, pretraining), dim, convolutions, dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        near: Callable[[Tensor], Tensor] = self.near
        if gates is not None:
            near = self.near.scaled(lambda pairs, sources: self.joined(gates, self.hears[pairs], sources))
        found: Tokens = self.passing(inputs, near, self.back, self.counts)
        return found
