"""The part of the knowledge graph around the codes of training records, and which node a code belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    """Nodes and edges; a code that is no node takes that of its nearest ancestor, by the ontology or by spelling."""

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    parents: tuple[tuple[int, int], ...]
    stand_ins: Mapping[str, int]
    max_codes: int = 128

    @classmethod
    def fit(
        cls, records: Iterable[Record], knowledge: Knowledge, *, max_codes: int = 128, max_nodes: int = 20_000
    ) -> Self:
        """Take training codes, their ancestors and neighbours, and the rest of the ontology as far as it fits.

        Leaves that no training record has are nodes too: what they inherit from their ancestors is what a hierarchy
        is for. Codes outside the graph are left out: they have nothing to say here.

        Raises:
            UsageError: `max_codes` or `max_nodes` is less than 1.
        """
        at_least("max_codes", max_codes, 1)
        at_least("max_nodes", max_nodes, 1)
        seen = {str(code) for record in records for code in set(record.codes.codes)}
        known = {edge.head for edge in knowledge.edges} | {edge.tail for edge in knowledge.edges}
        up: dict[str, list[str]] = {}
        for edge in knowledge.edges:
            if edge.relation == IS_A:
                up.setdefault(edge.head, []).append(edge.tail)
        core = set(_climb(seen & known, up))
        near = {end for edge in knowledge.edges for end in (edge.head, edge.tail) if {edge.head, edge.tail} & core}
        chosen = core | set(_climb(near, up)) if len(near) <= max_nodes else core
        rest = sorted(known - chosen)
        names = sorted(chosen) + (rest if len(chosen) + len(rest) <= max_nodes else [])
        number = {name: i for i, name in enumerate(sorted(names))}
        inside = [edge for edge in knowledge.edges if edge.head in number and edge.tail in number]
        edges = sorted({(number[edge.head], number[edge.tail]) for edge in inside})
        parents = sorted({(number[edge.head], number[edge.tail]) for edge in inside if edge.relation == IS_A})
        stand_ins = {code: node for code in known - set(number) if (node := _nearest(code, up, number)) is not None}
        return cls(tuple(number), tuple(edges), tuple(parents), stand_ins, max_codes)

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
    def leaf(self) -> Tensor:
        """Nodes that are nobody's parent. Shape: (N,) bool."""
        leaf = torch.ones(self.size, dtype=torch.bool)
        leaf[[parent for _, parent in self.parents]] = False
        return leaf

    def edge_index(self) -> Tensor:
        """Return all edges, both ways. Shape: (2, E) int64."""
        pairs = torch.tensor(self.edges, dtype=torch.int64).reshape(-1, 2).T
        return torch.cat([pairs, pairs.flip(0)], dim=1)

    def lineage(self, most: int = 8) -> tuple[Tensor, Tensor]:
        """Return each node itself and its nearest ancestors. Shape: (N, A) int64 and mask (N, A) bool, A <= most."""
        up: dict[int, list[int]] = {}
        for child, parent in self.parents:
            up.setdefault(child, []).append(parent)
        lines = [_climb([node], up)[:most] for node in range(self.size)]
        width = max(len(line) for line in lines)
        padded = torch.tensor([line + [0] * (width - len(line)) for line in lines])
        return padded, torch.tensor([[i < len(line) for i in range(width)] for line in lines])

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
            "edges": [list(pair) for pair in self.edges],
            "parents": [list(pair) for pair in self.parents],
            "stand_ins": dict(self.stand_ins),
            "max_codes": self.max_codes,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        edges, parents = (tuple((int(a), int(b)) for a, b in data[name]) for name in ("edges", "parents"))
        return cls(tuple(data["nodes"]), edges, parents, data["stand_ins"], data["max_codes"])


def _climb(start: Iterable[Any], up: Mapping[Any, Sequence[Any]]) -> list[Any]:
    """Return the start and everything above it, nearest first, each once."""
    found = dict.fromkeys(sorted(start))
    queue = list(found)
    for each in queue:
        for parent in up.get(each, ()):
            if parent not in found:
                found[parent] = None
                queue.append(parent)
    return queue


def _nearest(code: str, up: Mapping[str, Sequence[str]], number: Mapping[str, int]) -> int | None:
    return next((number[each] for each in _climb([code], up) if each in number), None)
