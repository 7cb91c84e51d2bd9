"""The ontology as pairs of child and parent: what lies above a node, and its levels without circles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Pairs = Iterable[tuple[int, int]]


def climb(start: Iterable[Any], up: Mapping[Any, Sequence[Any]]) -> list[Any]:
    """Return the start and everything above it, nearest first, each once."""
    found = dict.fromkeys(sorted(start))
    queue = list(found)
    for each in queue:
        for parent in up.get(each, ()):
            if parent not in found:
                found[parent] = None
                queue.append(parent)
    return queue


def nearest(code: str, up: Mapping[str, Sequence[str]], number: Mapping[str, int]) -> int | None:
    """Return the number of the nearest code above one that has a number."""
    return next((number[each] for each in climb([code], up) if each in number), None)


def group(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Gather the second of each pair under its first."""
    found: dict[Any, list[Any]] = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def lineages(pairs: Pairs, size: int, most: int) -> tuple[Tensor, Tensor]:
    """Return each node itself and its nearest ancestors. Shape: (N, A) int64 and mask (N, A) bool, A <= most."""
    up = group(pairs)
    lines = [climb([node], up)[:most] for node in range(size)]
    width = max(len(line) for line in lines)
    padded = torch.tensor([line + [0] * (width - len(line)) for line in lines])
    return padded, torch.tensor([[i < len(line) for i in range(width)] for line in lines])


def without_circles(pairs: Pairs) -> list[tuple[int, int]]:
    """Leave out the pairs that close a circle on the way up, always the same ones.

    Ways are followed from the lowest number on, lowest parent first; a pair that leads back to a node on the way
    closes a circle. A node that is its own parent is a circle of one.
    """
    up = group(sorted(set(pairs)))
    kept: list[tuple[int, int]] = []
    met: set[int] = set()
    for start in sorted(up):
        if start in met:
            continue
        met.add(start)
        way = {start: iter(up[start])}
        while way:
            node = next(reversed(way))
            parent = next(way[node], None)
            if parent is None:
                del way[node]
            elif parent not in way:
                kept.append((node, parent))
                if parent not in met:
                    met.add(parent)
                    way[parent] = iter(up.get(parent, ()))
    return sorted(kept)


def heights(pairs: Pairs, size: int) -> list[int]:
    """Return the longest way from each node down to one without children; the pairs must have no circle."""
    up = group(pairs)
    waiting = [0] * size
    for parents in up.values():
        for parent in parents:
            waiting[parent] += 1
    found = [0] * size
    ready = [node for node in range(size) if not waiting[node]]
    for node in ready:
        for parent in up.get(node, ()):
            found[parent] = max(found[parent], found[node] + 1)
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)
    return found
