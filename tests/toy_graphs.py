"""Small graphs of codes with numbers that can be done by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from hypothesis import strategies as st

from encoders.graph import CodeGraph, GraphInputs
from encoders.records import Edge, Knowledge

# r above p above x and y; d treats p. Numbers: d 0, p 1, r 2, x 3, y 4; relations: is_a 0, treats 1.
FAMILY = Knowledge((Edge("x", "is_a", "p"), Edge("y", "is_a", "p"), Edge("p", "is_a", "r"), Edge("d", "treats", "p")))
D, P, R, X, Y = range(5)
PAIRS_OF_TEN = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40)
START = torch.tensor([[7.0], [3.0], [11.0], [1.0], [2.0]])


def fitted(knowledge: Knowledge, **options: Any) -> CodeGraph:
    return CodeGraph.fit([], knowledge, **options)


def patients(*rows: Sequence[tuple[int, float]]) -> GraphInputs:
    """Inputs from each patient's nodes and days."""
    width = max(1, *(len(row) for row in rows))
    nodes, days = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width)
    for i, row in enumerate(rows):
        for j, (node, when) in enumerate(row):
            nodes[i, j], days[i, j] = node, when
    return GraphInputs(nodes, days, torch.arange(width) < torch.tensor([[len(row)] for row in rows]))
