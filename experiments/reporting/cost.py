"""What each strategy cost: seconds of training and parameters, as its runs recorded them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.reporting.charts import bar
from experiments.reporting.page import Part, paragraph
from experiments.reporting.table import table

if TYPE_CHECKING:
    from experiments.comparison import Comparison
    from experiments.held_out import HeldOut

_MEASURES = ("seconds", "parameters", "trees")


def training_costs(held_out: HeldOut) -> dict[str, dict[str, float]]:
    """Return of each strategy how many runs there are, and the mean a run of what they recorded."""
    found: dict[str, dict[str, float]] = {}
    for strategy, seeds in held_out.files.items():
        found[strategy] = {"runs": sum(len(folds) for folds in seeds)}
        for name in _MEASURES:
            runs = held_out.arrays(strategy, name)
            if runs is not None:
                found[strategy][name] = float(np.mean(runs))
    return found


def cost_part(comparison: Comparison) -> Part | None:
    """Return what the strategies cost, in the order of the leaderboard; nothing where no run said so."""
    costs: Mapping[str, Mapping[str, float]] = comparison.about.get("costs") or {}
    ranked = [(row.label, costs[row.strategy]) for row in comparison.ranking() if row.strategy in costs]
    if not any("seconds" in each for _, each in ranked):
        return None
    longest = max(each.get("seconds", 0.0) for _, each in ranked)
    rows: list[list[Any]] = []
    for label, each in ranked:
        seconds = each.get("seconds")
        said = f"{label}: {seconds:.1f} seconds" if seconds is not None else ""
        drawn = bar(longest, seconds, said) if seconds is not None else "not recorded"
        written = f"{seconds:.1f}" if seconds is not None else "not recorded"
        rows.append([label, drawn, written, f"{each['runs']:.0f}", _size(each)])
    whole = sum(each.get("seconds", 0.0) * each["runs"] for _, each in ranked)
    words = (
        f"Seconds that one run trained, a mean over seeds and folds, and how large the model is. All runs together "
        f"trained {_duration(whole)}. Times are of the machine and of whatever else ran on it; energy was not measured."
    )
    heads = ["strategy", "", "seconds a run", "runs", "size"]
    return Part("What it cost", [paragraph(words), table(heads, rows, name="cost of training")])


def _size(cost: Mapping[str, float]) -> str:
    if "parameters" in cost:
        return f"{cost['parameters']:,.0f} parameters"
    return f"{cost['trees']:,.0f} trees" if "trees" in cost else "not recorded"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
