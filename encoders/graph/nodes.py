"""The part of the knowledge graph around the codes of training records, and which node a code belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders.graph.features import NodeFeatures
from encoders.graph.ontology import climb, group, lineages, nearest
from encoders.graph.triples import NodeVectors
from encoders.limits import at_least
from encoders.packed import Packed
from encoders.records import Knowledge, Record

IS_A = "is_a"


class GraphInputs(NamedTuple):
    """Distinct nodes of B patients, those seen most recently last.

    Shape:
        nodes (B, T) int64; days (B, T) float before the prediction; mask (B, T) bool.
    """

    nodes: Tensor
    days: Tensor
    mask: Tensor


@dataclass(frozen=True)
class CodeGraph:
    """Nodes and edges; a code that is no node takes that of its nearest ancestor, by the ontology or by spelling.

    An edge is (head, tail, number of its relation). `features` and `vectors` say more about the nodes, where an
    encoder asks for it; both come from the knowledge graph alone, so that no patient is in them.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, int], ...]
    relations: tuple[str, ...]
    stand_ins: Mapping[str, int]
    max_codes: int = 128
    features: NodeFeatures = field(default_factory=NodeFeatures)
    vectors: NodeVectors = field(default_factory=NodeVectors)

    @classmethod
    def fit(
        cls,
        records: Iterable[Record],
        knowledge: Knowledge,
        *,
        max_codes: int = 128,
        max_nodes: int = 20_000,
        features: str = "none",
        pretraining: str = "none",
    ) -> Self:
        """Take training codes, their ancestors and neighbours, and the rest of the ontology as far as it fits.

        Leaves that no training record has are nodes too: what they inherit from their ancestors is what a hierarchy
        is for. Codes outside the graph are left out: they have nothing to say here.

        Raises:
            UsageError: `max_codes` or `max_nodes` is less than 1, there are no such features or pre-training, or
                molecules are wanted and rdkit is not installed.
        """
        at_least("max_codes", max_codes, 1)
        at_least("max_nodes", max_nodes, 1)
        seen = {str(code) for record in records for code in set(record.codes.codes)}
        known = {edge.head for edge in knowledge.edges} | {edge.tail for edge in knowledge.edges}
        up = group((edge.head, edge.tail) for edge in knowledge.edges if edge.relation == IS_A)
        core = set(climb(seen & known, up))
        near = {end for edge in knowledge.edges for end in (edge.head, edge.tail) if {edge.head, edge.tail} & core}
        chosen = core | set(climb(near, up)) if len(near) <= max_nodes else core
        rest = sorted(known - chosen)
        nodes = tuple(sorted(chosen | set(rest) if len(chosen) + len(rest) <= max_nodes else chosen))
        number = {name: i for i, name in enumerate(nodes)}
        inside = [edge for edge in knowledge.edges if edge.head in number and edge.tail in number]
        relations = tuple(sorted({edge.relation for edge in inside}))
        kind = {name: i for i, name in enumerate(relations)}
        edges = tuple(sorted({(number[edge.head], number[edge.tail], kind[edge.relation]) for edge in inside}))
        stand_ins = {code: node for code in known - set(number) if (node := nearest(code, up, number)) is not None}
        more = NodeFeatures.fit(features, nodes, knowledge)
        vectors = NodeVectors.fit(pretraining, edges, len(nodes), len(relations))
        return cls(nodes, edges, relations, stand_ins, max_codes, more, vectors)

    @cached_property
    def number(self) -> dict[str, int]:
        """The number of each node."""
        return {name: i for i, name in enumerate(self.nodes)}

    @property
    def size(self) -> int:
        """How many rows an embedding table needs; at least one, so that an empty graph can still be built."""
        return max(1, len(self.nodes))

    def node(self, code: str) -> int | None:
        """Return the node of a code: itself, its nearest ancestor, or the longest node its spelling starts with."""
        found = self.number.get(code, self.stand_ins.get(code))
        if found is not None:
            return found
        vocabulary, separator, rest = code.partition("//")
        for length in range(len(rest) - 1, 0, -1):
            found = self.number.get(vocabulary + separator + rest[:length])
            if found is not None:
                return found
        return None

    @cached_property
    def parents(self) -> tuple[tuple[int, int], ...]:
        """The pairs of child and parent."""
        return tuple((head, tail) for head, tail, kind in self.edges if self.relations[kind] == IS_A)

    @cached_property
    def leaf(self) -> Tensor:
        """Nodes that are nobody's parent. Shape: (N,) bool."""
        leaf = torch.ones(self.size, dtype=torch.bool)
        leaf[[parent for _, parent in self.parents]] = False
        return leaf

    @cached_property
    def linked(self) -> tuple[tuple[int, int], ...]:
        """The pairs of different nodes that a fact joins, the lower number first, each once."""
        return tuple(sorted({(min(head, tail), max(head, tail)) for head, tail, _ in self.edges if head != tail}))

    def edge_index(self) -> Tensor:
        """Return all edges both ways, whatever their relation, each once and none to itself. Shape: (2, E) int64."""
        ends = {(head, tail) for head, tail, _ in self.edges if head != tail}
        both = sorted(ends | {(tail, head) for head, tail in ends})
        return torch.tensor(both, dtype=torch.int64).reshape(-1, 2).T.contiguous()

    def typed_edges(self) -> tuple[Tensor, Tensor]:
        """Return all edges both ways with their relations, and none to itself; the way back has a relation of its own.

        Shape:
            (2, E) int64, from and to; (E,) int64, r for head to tail and R + r for tail to head, R relations.
        """
        edges = torch.tensor([each for each in self.edges if each[0] != each[1]], dtype=torch.int64).reshape(-1, 3)
        head, tail, kind = edges.unbind(1)
        ends = torch.stack([torch.cat([head, tail]), torch.cat([tail, head])])
        return ends, torch.cat([kind, kind + len(self.relations)])

    def lineage(self, most: int = 8) -> tuple[Tensor, Tensor]:
        """Return each node itself and its nearest ancestors. Shape: (N, A) int64 and mask (N, A) bool, A <= most."""
        return lineages(self.parents, self.size, most)

    def columns(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Name each column's type and the shape of one item."""
        return {"nodes": (np.dtype(np.int32), ()), "days": (np.dtype(np.float32), ())}

    def encode(self, record: Record) -> dict[str, NDArray[Any]] | None:
        """Find the distinct nodes of a record's codes, the most recent where there are too many."""
        latest: dict[int, float] = {}
        for code, days in zip(record.codes.codes, record.codes.days, strict=True):
            node = self._node_of(code)
            if node is not None:
                latest.pop(node, None)
                latest[node] = float(days)
        kept = list(latest.items())[-self.max_codes :]
        if not kept:
            return None
        return {
            "nodes": np.array([n for n, _ in kept], np.int32),
            "days": np.array([d for _, d in kept], np.float32),
        }

    @cached_property
    def _memory(self) -> dict[str, int | None]:
        return {}

    def _node_of(self, code: str) -> int | None:
        if code not in self._memory:
            self._memory[code] = self.node(code)
        return self._memory[code]

    def collate(self, packed: Packed, rows: Tensor) -> GraphInputs:
        """Gather rows (B,) into padded inputs."""
        columns, mask = packed.pad(rows)
        return GraphInputs(columns["nodes"].long(), columns["days"], mask)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "nodes": list(self.nodes),
            "edges": [list(edge) for edge in self.edges],
            "relations": list(self.relations),
            "stand_ins": dict(self.stand_ins),
            "max_codes": self.max_codes,
            "features": self.features.to_dict(),
            "vectors": self.vectors.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        edges = tuple((int(head), int(tail), int(kind)) for head, tail, kind in data["edges"])
        more, vectors = NodeFeatures.from_dict(data["features"]), NodeVectors.from_dict(data["vectors"])
        relations = tuple(data["relations"])
        return cls(tuple(data["nodes"]), edges, relations, data["stand_ins"], data["max_codes"], more, vectors)
