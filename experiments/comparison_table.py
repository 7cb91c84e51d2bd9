"""A comparison on the terminal: metrics, differences, what holds across folds, remarks and footnotes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from experiments.metrics import metric_name

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row

UNDEFINED = "not defined"


def comparison_table(comparison: Comparison) -> Group:
    """Return rich tables: the metrics of each strategy, differences from the best, and their tests across folds."""
    names = list(dict.fromkeys(row.metric for row in comparison.rows))
    table = Table("strategy", *map(metric_name, names), title=comparison.about.get("title"))
    for ranked in comparison.ranking():
        cells = {row.metric: row for row in comparison.rows if row.strategy == ranked.strategy}
        label = ranked.label if ranked.kind == "fusion" else f"[dim]{ranked.label}[/dim]"
        table.add_row(label, *(_in_two_lines(cells[name]) if name in cells else "" for name in names))
    gaps = Table("first", "second", f"difference in {metric_name(comparison.metric)}", "p", "p (all pairs)")
    for each in comparison.differences:
        span = f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})" if math.isfinite(each.value) else UNDEFINED
        gaps.add_row(each.first, each.second, span, in_print(each.p), in_print(each.p_all))
    notes = [comparison.verdict(), *comparison.about.get("warnings", ()), *comparison.footnotes]
    folds = [_across(comparison)] if any(each.across is not None for each in comparison.differences) else []
    return Group(table, gaps, *folds, *(Text(note) for note in notes))


def in_print(p: float) -> str:
    """Return a p value or a probability as it is printed."""
    return f"{p:.3f}" if math.isfinite(p) else UNDEFINED


def _across(comparison: Comparison) -> Table:
    """Return the tests over folds, in which models were trained anew."""
    found = Table(
        "first", "second", "over folds", "same sign", "p (corrected t)", "p (sign flips)", "practically equal"
    )
    for each in comparison.differences:
        over = each.across
        if over is None:
            continue
        span = f"{over.low:+.3f} to {over.high:+.3f}" if math.isfinite(over.low) else UNDEFINED
        likely = f"{over.practical.equal:.0%}" if over.practical and math.isfinite(over.practical.equal) else ""
        signs = f"{over.same_sign} of {over.folds}"
        found.add_row(each.first, each.second, span, signs, in_print(over.p), in_print(over.p_flips), likely)
    return found


def _in_two_lines(row: Row) -> str:
    return f"{row.value:.3f}\n({row.low:.3f} to {row.high:.3f})" if math.isfinite(row.value) else UNDEFINED
