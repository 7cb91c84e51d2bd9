"""Attention in two stages: ancestors from their children, then codes from their ancestors."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.links import ancestor_gates
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import EdgeAttention
from encoders.graph.table import DatedNodes, Features, NodeTable, Pretraining
from fusion.component import Choice, Float
from fusion.layers import Block
from fusion.tokens import Tokens

_MOST_ANCESTORS = 16  # beyond them, the farthest are left out; classifications are at most ten deep


class GraphTwoStage(nn.Module):
    """Each ancestor attends to its direct children and itself, then each code to all of its ancestors and itself.

    Both stages are one graph attention with the same weights. Only codes of the batch, their ancestors and the
    children of these are computed. `layers` of self-attention among a patient's codes may follow.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (N,), how far each ancestor is heard below it, to explain.

    Raises:
        UsageError: dim is not divisible by heads.

    Reference:
        Shang et al., Pre-training of Graph Augmented Transformers for Medication Recommendation (G-BERT), 2019
        (its ontology embedding, and with `layers` its Transformer, here over a record; leaves start at zero).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "ancestors"
    lineage: Tensor
    real: Tensor
    pairs: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
        layers: Annotated[int, Choice(0, 1, 2, searched=False)] = 0,
    ) -> None:
        super().__init__()
        lineage, real = preprocessor.lineage(_MOST_ANCESTORS + 1)
        pairs = torch.tensor([each for each in preprocessor.parents if each[0] != each[1]], dtype=torch.int64)
        self.register_buffer("lineage", lineage, persistent=False)
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("pairs", pairs.reshape(-1, 2).T.contiguous(), persistent=False)
        self.table = NodeTable(preprocessor, dim, features, pretraining)
        self.attention, self.dated = EdgeAttention(dim, heads), DatedNodes(dim, dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        unique, place = inputs.nodes.unique(return_inverse=True)
        values, mask = self.dated(functional.embedding(place, self.inform(unique, gates)), inputs)
        for block in self.blocks:
            values = block(values, mask)
        return Tokens(values, mask)

    def inform(self, nodes: Tensor, gates: Tensor | None = None) -> Tensor:
        """Run both stages for distinct nodes. Shape: (N,) int64 -> (N, D)."""
        line, real = self.lineage[nodes], self.real[nodes]
        above = line[real].unique()
        place, which = real.nonzero()[:, 0], self._number(above)
        informed = self._from_children(above, which)
        shut = None if gates is None else torch.as_tensor(ancestor_gates(gates, line))[real]
        return self.attention(informed, which[line[real]], place, which[nodes], shut)

    def _from_children(self, above: Tensor, which: Tensor) -> Tensor:
        child, parent = self.pairs[:, which[self.pairs[1]] >= 0]
        touched = torch.cat([above, child]).unique()
        row, own = self._number(touched), torch.arange(len(above), device=above.device)
        source, place = torch.cat([row[child], row[above]]), torch.cat([which[parent], own])
        return self.attention(self.table(touched), source, place, row[above])

    def _number(self, nodes: Tensor) -> Tensor:
        """Number the given nodes from 0 on and all others -1. Shape: (n,) -> (N,)."""
        numbers = nodes.new_full((len(self.lineage),), -1)
        numbers[nodes] = torch.arange(len(nodes), device=nodes.device)
        return numbers
