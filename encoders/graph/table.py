"""The vectors of nodes before anything is passed between them, and of a patient's nodes afterwards."""

from __future__ import annotations

import logging
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.features import FEATURES
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.triples import PRETRAINING
from encoders.time import TimeEncoding
from fusion.component import Choice
from fusion.tokens import Tokens

# not searched unless asked for: each is a preparation of its own, and molecules want an optional package
Features = Annotated[str, Choice(*FEATURES, searched=False)]
Pretraining = Annotated[str, Choice(*PRETRAINING, searched=False)]

_log = logging.getLogger(__name__)


class NodeTable(nn.Module):
    """One vector a node: its own, and what its features and its pre-trained vector say.

    Leaves start at zero, so that an unseen one adds nothing of its own. Features (words of descriptions, or
    substructures of molecules) add the mean of their vectors, pre-trained vectors a projection; both give also a
    node that no training record has a vector that was learned from others.

    Shape:
        nodes (...) int64 -> (..., D).
    """

    rows: Tensor
    known: Tensor

    def __init__(self, graph: CodeGraph, dim: int, features: str = "none", pretraining: str = "none") -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(graph.size, dim) * 0.3)
        with torch.no_grad():
            self.vectors[graph.leaf] = 0.0
        self.described: nn.EmbeddingBag | None = None
        self.project: nn.Linear | None = None
        if _has("features", features, graph.features.kind) and graph.features.names:
            self.register_buffer("rows", _padded(graph.features.rows), persistent=False)
            self.described = nn.EmbeddingBag(1 + len(graph.features.names), dim, mode="mean", padding_idx=0)
            with torch.no_grad():
                self.described.weight.mul_(0.3)
        if _has("pretraining", pretraining, graph.vectors.kind) and graph.vectors.rows:
            self.register_buffer("known", torch.tensor(graph.vectors.rows), persistent=False)
            self.project = nn.Linear(self.known.shape[1], dim, bias=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """Look nodes up."""
        if self.described is None and self.project is None:
            return functional.embedding(nodes, self.vectors)
        unique, place = nodes.unique(return_inverse=True)  # a batch has the same codes many times
        return functional.embedding(place, self._inform(functional.embedding(unique, self.vectors), unique))

    def everything(self) -> Tensor:
        """Return the vectors of all nodes. Shape: (N, D)."""
        return self._inform(self.vectors, slice(None))

    def _inform(self, vectors: Tensor, nodes: Tensor | slice) -> Tensor:
        if self.described is not None:
            vectors = vectors + self.described(self.rows[nodes])
        if self.project is not None:
            vectors = vectors + self.project(self.known[nodes])
        return vectors


class DatedNodes(nn.Module):
    """Tokens of a patient's nodes: what the graph made of them, and when they were last seen.

    Shape:
        values (B, T, D), GraphInputs (B, T) -> Tokens (B, T, D).
    """

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.time, self.drop, self.norm = TimeEncoding(dim), nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, values: Tensor, inputs: GraphInputs) -> Tokens:
        """Add the time to the nodes."""
        return Tokens(self.norm(self.drop(values) + self.time(inputs.days, inputs.mask)), inputs.mask)


def _has(option: str, wanted: str, fitted: str) -> bool:
    """Tell whether the graph was fitted with what the encoder wants, as it always is when `preparation` plans it."""
    if wanted not in ("none", fitted):
        _log.warning("%s '%s' adds nothing: the graph was fitted with '%s'", option, wanted, fitted)
    return wanted == fitted != "none"


def _padded(rows: tuple[tuple[int, ...], ...]) -> Tensor:
    """Lay feature numbers side by side, one higher, for 0 is padding. Shape: (N, F) int64."""
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([[number + 1 for number in row] + [0] * (width - len(row)) for row in rows])
