"""Who is predicted: how many patients each split has, and who was left out on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting.table import table
from experiments.tasks.disclosure import shown_flow


def cohort_body(counts: Mapping[str, Mapping[str, int]], flow: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of the splits and one of the steps from everybody to those predicted, what there is of them."""
    parts = []
    if counts:
        heads = list(next(iter(counts.values())))
        rows = [[name, *(f"{each[key]:,}" for key in heads)] for name, each in counts.items()]
        parts.append(table(["split", *heads], rows))
    if flow:
        steps = [[step["step"], step["n"]] for step in shown_flow(flow)]
        parts.append(table(["from everybody to those predicted", "left"], steps))
    return parts
