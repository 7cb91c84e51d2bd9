"""Two sweeps of attention over the ontology, from the leaves up and from the roots down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.links import Links
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.ontology import heights, without_circles
from encoders.graph.passing import softmax_at, sum_at
from encoders.graph.table import DatedNodes, Features, NodeTable, Pretraining
from fusion.component import Choice, Float
from fusion.tokens import Tokens


class Sweep(nn.Module):
    """Level by level, each node becomes the mean of itself and its givers, weighted by how well they fit it.

    e_i <- sum_j a_ij e_j over j in {i} and its givers, a_i = softmax_j(v . tanh(W [e_i; e_j])). A node's level is the
    longest way to it, so that all of its givers, however many parents it has, are done before it.

    Shape:
        pairs of giver and taker, without circles; forward: (N, D) -> (N, D).
    """

    takers: Tensor
    sources: Tensor
    places: Tensor

    def __init__(self, pairs: list[tuple[int, int]], size: int, dim: int, attention: int) -> None:
        super().__init__()
        level = heights(pairs, size)
        takers = sorted({taker for _, taker in pairs}, key=lambda node: (level[node], node))
        # all edges into a level lie side by side, each taker's edge to itself among them
        edges = sorted([*pairs, *((node, node) for node in takers)], key=lambda pair: (level[pair[1]], *pair[::-1]))
        nodes_at, edges_at = Counter(level[node] for node in takers), Counter(level[taker] for _, taker in edges)
        # every level from 1 on has takers, for a node's level is one more than that of some giver
        self.nodes_at, self.edges_at = ([counts[each] for each in sorted(counts)] for counts in (nodes_at, edges_at))
        first = dict(zip(sorted(nodes_at), accumulate(self.nodes_at, initial=0), strict=False))
        number = {node: i - first[level[node]] for i, node in enumerate(takers)}
        for name, found in (
            ("takers", takers),
            ("sources", [giver for giver, _ in edges]),
            ("places", [number[taker] for _, taker in edges]),
        ):
            self.register_buffer(name, torch.tensor(found, dtype=torch.int64), persistent=False)
        self.own, self.other = nn.Linear(dim, attention), nn.Linear(dim, attention, bias=False)
        self.fit = nn.Linear(attention, 1, bias=False)

    def forward(self, nodes: Tensor, gate: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """Sweep over all levels; a gate says how much of giver (E,) and taker (E,) comes across."""
        levels = zip(
            self.takers.split(self.nodes_at), self.sources.split(self.edges_at), self.places.split(self.edges_at),
            strict=True,
        )  # fmt: skip
        for takers, sources, places in levels:
            given = nodes.index_select(0, sources)
            asked = self.own(nodes.index_select(0, takers)).index_select(0, places)
            scores = self.fit((asked + self.other(given)).tanh())
            weights = softmax_at(scores, places, len(takers))
            if gate is not None:
                weights = weights * gate(sources, takers[places]).unsqueeze(1)
            mixed = sum_at(weights * given, places, len(takers))
            nodes = nodes.index_copy(0, takers, mixed)
        return nodes


class GraphSweeps(nn.Module):
    """Ancestors learn from their descendants, then descendants from their ancestors, so each code sees the ontology.

    Nodes are part of their own mean, so that a leaf keeps a vector of its own; pairs that close a circle of parents
    are left out, always the same ones.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (L,), one a pair of joined nodes, to explain.

    Reference:
        Zhang et al., Hierarchical Attention Propagation for Healthcare Representation Learning (HAP), 2020 (with
        separate weights for the two ways; the released code leaves a node out of its own mean, and goes by the
        depth in a tree, where we go by the longest way, for nodes may have several parents).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "edges"

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
        self.joined = Links(preprocessor)
        up = without_circles(preprocessor.parents)
        down = [(parent, child) for child, parent in up]
        self.table = NodeTable(preprocessor, dim, features, pretraining)
        self.up, self.down = (Sweep(pairs, preprocessor.size, dim, attention) for pairs in (up, down))
        self.dated = DatedNodes(dim, dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        gate = None if gates is None else partial(self.joined, gates)
        nodes = self.down(self.up(self.table.everything(), gate), gate)
        found: Tokens = self.dated(functional.embedding(inputs.nodes, nodes), inputs)
        return found
