"""The vectors of nodes before anything is passed between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.graph.nodes import CodeGraph


class NodeTable(nn.Module):
    """One vector a node; leaves start at zero, so that an unseen one adds nothing of its own.

    Shape:
        nodes (...) int64 -> (..., D).
    """

    def __init__(self, graph: CodeGraph, dim: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(graph.size, dim) * 0.3)
        with torch.no_grad():
            self.vectors[graph.leaf] = 0.0

    def forward(self, nodes: Tensor) -> Tensor:
        """Look nodes up."""
        return self.vectors[nodes]
