"""Layers of message passing among all nodes, and sums over the edges that reach a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.nodes import GraphInputs
from encoders.graph.table import DatedNodes, NodeTable
from fusion.component import UsageError
from fusion.tokens import Tokens


class MessagePassing(nn.Module):
    """Residual layers of message passing among all nodes; tokens are the patient's nodes.

    What the layers need of the graph besides the nodes is handed on to each of them.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); a layer maps (N, D) to (N, D).
    """

    def __init__(self, table: NodeTable, dim: int, layers: Sequence[nn.Module], dropout: float) -> None:
        super().__init__()
        self.table, self.layers = table, nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in layers)
        self.dated = DatedNodes(dim, dropout)

    def forward(self, inputs: GraphInputs, *structure: Any) -> Tokens:
        """Pass messages and read the patients' nodes off."""
        nodes = self.table.everything()
        for layer, norm in zip(self.layers, self.norms, strict=True):
            nodes = nodes + functional.gelu(layer(norm(nodes), *structure))
        found: Tokens = self.dated(functional.embedding(inputs.nodes, nodes), inputs)
        return found


class EdgeAttention(nn.Module):
    """Additive attention from places to what their edges lead to, heads side by side.

    a_ij = softmax_j LeakyReLU_0.2(a . [W h_i; W h_j]) over the edges of i; the result is sum_j a_ij W h_j. A place
    with an edge to itself keeps a part of itself.

    Shape:
        values (S, D); source (E,) rows of values; place (E,) from 0 to P - 1; own (P,) each place's own row;
        gates (E,), how much each weight counts -> (P, D).

    Raises:
        UsageError: dim is not divisible by heads.

    Reference:
        Velickovic et al., Graph Attention Networks, 2018.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"dim ({dim}) must be divisible by heads ({heads})")
        self.mix, self.bias = nn.Linear(dim, dim, bias=False), nn.Parameter(torch.zeros(dim))
        self.ask, self.answer = (nn.Parameter(torch.empty(heads, dim // heads)) for _ in range(2))
        for weight in (self.mix.weight, self.ask, self.answer):
            nn.init.xavier_uniform_(weight)

    def forward(
        self, values: Tensor, source: Tensor, place: Tensor, own: Tensor, gates: Tensor | None = None
    ) -> Tensor:
        """Attend along the edges."""
        mixed = self.mix(values).unflatten(-1, self.ask.shape)  # (S, H, D / H)
        ask = (mixed * self.ask).sum(-1).index_select(0, own).index_select(0, place)
        scores = functional.leaky_relu(ask + (mixed * self.answer).sum(-1).index_select(0, source), 0.2)
        weights = softmax_at(scores, place, len(own)).unsqueeze(-1)
        weights = weights if gates is None else weights * gates.reshape(-1, 1, 1)
        return sum_at(weights * mixed.index_select(0, source), place, len(own)).flatten(1) + self.bias


def sum_at(values: Tensor, place: Tensor, count: int) -> Tensor:
    """Sum values that go to the same place. Shape: (E, ...), (E,) int64 -> (count, ...)."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, place, values)


def softmax_at(scores: Tensor, place: Tensor, count: int) -> Tensor:
    """Softmax among the scores that go to the same place. Shape: (E, H), (E,) int64 -> (E, H)."""
    lowest = scores.new_full((count, scores.shape[1]), torch.finfo(scores.dtype).min)
    top = lowest.scatter_reduce(0, place.unsqueeze(1).expand_as(scores), scores.detach(), "amax")
    raised = (scores - top.index_select(0, place)).exp()
    return raised / sum_at(raised, place, count).index_select(0, place)
