"""Message passing over the whole ontology by torch-geometric, then the patient's codes are read off."""

from __future__ import annotations

import importlib
import warnings
from typing import Annotated, Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.table import NodeTable
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int, UsageError
from fusion.tokens import Tokens


class _Passing(nn.Module):
    """Residual layers of message passing among all nodes; tokens are the patient's nodes.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D).
    """

    edges: Tensor

    def __init__(self, graph: CodeGraph, dim: int, layers: list[nn.Module], dropout: float) -> None:
        super().__init__()
        self.register_buffer("edges", graph.edge_index(), persistent=False)
        self.table, self.layers = NodeTable(graph, dim), nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in layers)
        self.time, self.drop, self.norm = TimeEncoding(dim), nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, inputs: GraphInputs, *weights: Tensor) -> Tokens:
        nodes: Tensor = self.table.vectors
        for layer, norm in zip(self.layers, self.norms, strict=True):
            nodes = nodes + functional.gelu(layer(norm(nodes), self.edges, *weights))
        when = self.time(inputs.days, inputs.mask)
        return Tokens(self.norm(self.drop(nodes[inputs.nodes]) + when), inputs.mask)


class GraphConvolution(nn.Module):
    """Graph convolution over the ontology and its other relations, edges taken both ways.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, 2017 (with residuals).
    """

    preprocessor: ClassVar[type] = CodeGraph
    weight: Tensor

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        geometric = _geometric()
        convolutions = [geometric.GCNConv(dim, dim, normalize=False) for _ in range(layers)]
        self.passing = _Passing(preprocessor, dim, convolutions, dropout)
        # the graph never changes, so it is normalised once instead of at every step
        edges, weight = geometric.conv.gcn_conv.gcn_norm(
            self.passing.edges, num_nodes=preprocessor.size, add_self_loops=True
        )
        self.passing.edges = edges
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, inputs: GraphInputs) -> Tokens:
        """Give each patient's codes their vectors."""
        found: Tokens = self.passing(inputs, self.weight)
        return found


class GraphAttention(nn.Module):
    """Graph attention over the ontology and its other relations, edges taken both ways.

    Shape:
        GraphInputs (B, T) -> Tokens (B, T, D).

    Raises:
        UsageError: dim is not divisible by heads.

    Reference:
        Velickovic et al., Graph Attention Networks, 2018; on code ontologies: Shang et al., Pre-training of Graph
        Augmented Transformers for Medication Recommendation (G-BERT), 2019 (there in two directed stages).
    """

    preprocessor: ClassVar[type] = CodeGraph

    def __init__(
        self,
        preprocessor: CodeGraph,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 2)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"dim ({dim}) must be divisible by heads ({heads})")
        attentions: list[Any] = [_geometric().GATConv(dim, dim // heads, heads) for _ in range(layers)]
        self.passing = _Passing(preprocessor, dim, attentions, dropout)

    def forward(self, inputs: GraphInputs) -> Tokens:
        """Give each patient's codes their vectors."""
        found: Tokens = self.passing(inputs)
        return found


def _geometric() -> Any:
    """Import torch-geometric's layers when they are first wanted, without what newer torch says about its scripting."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit", category=FutureWarning)
        warnings.filterwarnings("ignore", message="`torch.jit", category=DeprecationWarning)
        return importlib.import_module("torch_geometric.nn")
