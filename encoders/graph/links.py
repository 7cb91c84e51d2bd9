"""Which of a graph's facts an encoder passes something along, with a gate each that an explanation can shut."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.graph.nodes import CodeGraph


class Links(nn.Module):
    """Gates of the pairs of nodes that facts join, whatever the way and the relation; a node keeps itself at 1.

    At 1 a pair's messages are as they are, at 0 neither of the two hears of the other.

    Shape:
        gates (L,) in the order of `linked`; one and other (E,) int64 -> (E,).
    """

    keys: Tensor

    def __init__(self, graph: CodeGraph) -> None:
        super().__init__()
        self.size = graph.size
        low, high = torch.tensor(graph.linked, dtype=torch.int64).reshape(-1, 2).unbind(1)
        self.register_buffer("keys", low * self.size + high, persistent=False)

    def forward(self, gates: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """Find the gate of each pair."""
        apart = one != other
        keys = torch.minimum(one, other) * self.size + torch.maximum(one, other)
        found = gates.new_ones(len(one))
        return found.masked_scatter(apart, gates[torch.searchsorted(self.keys, keys[apart])])


def ancestor_gates(gates: Tensor | None, lineage: Tensor) -> Tensor | float:
    """Return the gate of each ancestor in lines of descent; the first of a line is the node itself, at 1.

    Shape:
        gates (N,), one a node, for what it says to those below it; lineage (n, A) -> (n, A), or 1 without gates.
    """
    if gates is None:
        return 1.0
    return torch.cat([gates.new_ones(len(lineage), 1), gates[lineage[:, 1:]]], dim=1)
