"""The knowledge graph: a patient's codes with vectors informed by their ancestors and neighbours."""

from encoders.graph.ancestors import GraphAncestors
from encoders.graph.convolution import GraphAttention, GraphConvolution
from encoders.graph.nodes import CodeGraph, GraphInputs

GRAPH: dict[str, type] = {"ancestors": GraphAncestors, "gcn": GraphConvolution, "gat": GraphAttention}

__all__ = ["GRAPH", "CodeGraph", "GraphAncestors", "GraphAttention", "GraphConvolution", "GraphInputs"]
