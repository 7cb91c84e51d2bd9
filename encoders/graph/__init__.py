"""The knowledge graph: a patient's codes with vectors informed by their ancestors and neighbours."""

from encoders.artefact import Artefact
from encoders.graph.ancestors import GraphAncestors
from encoders.graph.attention import GraphAttention
from encoders.graph.convolution import GraphConvolution
from encoders.graph.gbert import GraphTwoStage
from encoders.graph.nodes import CodeGraph, GraphInputs
from encoders.graph.personal import GraphPersonal
from encoders.graph.relational import GraphRelational
from encoders.graph.sweeps import GraphSweeps

GRAPH: dict[str, type] = {
    "ancestors": GraphAncestors,
    "gcn": GraphConvolution,
    "gat": GraphAttention,
    "gbert": GraphTwoStage,
    "hap": GraphSweeps,
    "rgcn": GraphRelational,
    "personal": GraphPersonal,
    "artefact": Artefact,
}

__all__ = [
    "GRAPH",
    "CodeGraph",
    "GraphAncestors",
    "GraphAttention",
    "GraphConvolution",
    "GraphInputs",
    "GraphPersonal",
    "GraphRelational",
    "GraphSweeps",
    "GraphTwoStage",
]
