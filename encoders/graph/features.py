"""What is known about a node besides its edges: the words that describe it, or the substructures of its molecule."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from encoders.codes.described import describe
from encoders.graph.molecules import substructures
from encoders.records import Knowledge
from fusion.component import unknown

FEATURES = ("none", "descriptions", "molecules")
_MOST_WORDS = 16  # of one description; those of classifications are shorter

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NodeFeatures:
    """Lists of feature numbers, one list a node; `names` says what each number is, so that prediction needs no rdkit.

    Only features of at least two nodes are kept: what a single node has is that node by another name, and would give
    a leaf never seen in training a vector that nothing has learned.
    """

    kind: str = "none"
    names: tuple[str, ...] = ()
    rows: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def fit(cls, kind: str, nodes: Sequence[str], knowledge: Knowledge) -> Self:
        """Find the features of nodes, of no kind but the one asked for.

        Raises:
            UsageError: there is no such kind, or molecules are wanted and rdkit is not installed.
        """
        if kind not in FEATURES:
            raise unknown("value", kind, FEATURES, "features")
        if kind == "none":
            return cls()
        if kind == "descriptions":
            # without a description, the vocabulary and the first letters of a code say where it belongs
            return cls._number(kind, [describe(node, knowledge.descriptions)[:_MOST_WORDS] for node in nodes])
        return cls._number(kind, _molecules(nodes, knowledge.smiles))

    @classmethod
    def _number(cls, kind: str, found: Sequence[Iterable[str]]) -> Self:
        each_once = [list(dict.fromkeys(names)) for names in found]
        counts = Counter(name for names in each_once for name in names)
        shared = tuple(sorted(name for name, count in counts.items() if count > 1))
        number = {name: i for i, name in enumerate(shared)}
        return cls(kind, shared, tuple(tuple(number[n] for n in names if n in number) for names in each_once))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"kind": self.kind, "names": list(self.names), "rows": [list(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        rows = tuple(tuple(int(number) for number in row) for row in data["rows"])
        return cls(data["kind"], tuple(data["names"]), rows)


def _molecules(nodes: Sequence[str], smiles: Mapping[str, str]) -> list[list[str]]:
    """Return the substructures of each node; none where it has no molecule or one that cannot be read."""
    wanted = {node: smiles[node] for node in nodes if smiles.get(node)}
    found = substructures(wanted.values()) if wanted else {}  # a graph without molecules needs no rdkit
    unreadable = sum(not found[each] for each in wanted.values())
    if unreadable:
        _log.warning("%d of %d SMILES cannot be read and were skipped", unreadable, len(wanted))
    return [found[wanted[node]] if node in wanted else [] for node in nodes]
