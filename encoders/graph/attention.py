"""Graph attention over the whole ontology by torch-geometric, then the patient's codes are read off."""

from __future__ import annotations

import importlib
import warnings
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn

from encoders.graph.links import Links
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.passing import MessagePassing
from encoders.graph.table import Features, NodeTable, Pretraining
from fusion.component import Choice, Float, Int, UsageError
from fusion.tokens import Tokens


class GraphAttention(nn.Module):
    """Graph attention over the ontology and its other relations, edges taken both ways.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D); gates (L,), one a pair of joined nodes, to explain.

    Raises:
        UsageError: dim is not divisible by heads.

    Reference:
        Velickovic et al., Graph Attention Networks, 2018 (with residuals; `gbert` has the two directed stages of
        G-BERT).
    """

    preprocessor: ClassVar[type] = CodeGraph
    explained_by: ClassVar[str] = "edges"
    edges: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 2)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
        features: Features = "none",
        pretraining: Pretraining = "none",
    ) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"dim ({dim}) must be divisible by heads ({heads})")
        self.joined = Links(preprocessor)
        self.register_buffer("edges", preprocessor.edge_index(), persistent=False)
        attentions: list[Any] = [_geometric().GATConv(dim, dim // heads, heads) for _ in range(layers)]
        table = NodeTable(preprocessor, dim, features, pretraining)
        self.passing = MessagePassing(table, dim, attentions, dropout)

    def forward(self, inputs: GraphInputs, gates: Tensor | None = None) -> Tokens:
        """Give each patient's codes their vectors."""
        if gates is None:
            found: Tokens = self.passing(inputs, self.edges)
            return found
        explain = importlib.import_module("torch_geometric.explain.algorithm.utils")
        explain.set_masks(self.passing, self.joined(gates, *self.edges), self.edges, apply_sigmoid=False)
        try:
            found = self.passing(inputs, self.edges)
        finally:
            explain.clear_masks(self.passing)
        return found


def _geometric() -> Any:
    """Import torch-geometric's layers when they are first wanted, without what newer torch says about its scripting."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")
