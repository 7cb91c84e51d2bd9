"""The ranking of strategies with its intervals drawn, and where their uncertainty comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.metrics import metric_name
from experiments.reporting.charts import Scale, axis, interval
from experiments.reporting.page import Part, folded, paragraph
from experiments.reporting.table import UNDEFINED, Stacked, table

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row

KIND_WORDS = {"modality": "single modality", "without": "one left out"}
_CHANCE = 0.5


def leaderboard_part(comparison: Comparison) -> Part:
    """Return every strategy, best first: its primary metric drawn and written, other metrics, the spread over seeds."""
    primary = metric_name(comparison.metric)
    others = list(dict.fromkeys(row.metric for row in comparison.rows if row.metric != comparison.metric))
    cells = {(row.strategy, row.metric): row for row in comparison.rows}
    ranking = comparison.ranking()
    scale = Scale.over([each for row in ranking for each in (row.low, row.high, row.value, *row.seeds)])
    reference = _CHANCE if comparison.metric.startswith("auroc") else None
    heads: list[Any] = [
        "rank, strategy, kind",
        axis(scale),
        primary,
        *map(metric_name, others),
        f"seed SD of {primary}",
    ]
    rows = []
    for place, row in enumerate(ranking, start=1):
        drawn = interval(
            scale, row.value, row.low, row.high, said(row), kind=row.kind, points=row.seeds, reference=reference
        )
        rest = [_written(cells.get((row.strategy, metric))) for metric in others]
        name = Stacked(f"{place}. {row.label}", KIND_WORDS.get(row.kind, row.kind))
        rows.append([name, drawn, _written(row), *rest, _seed_spread(row)])
    better = "higher" if comparison.higher_is_better else "lower"
    words = (
        f"Ranked by {primary}, the mean over seeds; {better} is better. The line is its 95% interval over patients, "
        "the small dots are single seeds. The last column is the spread over seeds, which the interval does not hold."
    )
    return Part("Leaderboard", [paragraph(words), table(heads, rows, name="leaderboard"), *_uncertainty(comparison)])


def said(row: Row) -> str:
    """Say in words what the drawing of a row shows."""
    if not math.isfinite(row.value):
        return f"{row.label}: {metric_name(row.metric)} {UNDEFINED}"
    return f"{row.label}: {metric_name(row.metric)} {row.value:.3f} (95% interval {row.low:.3f} to {row.high:.3f})"


def _uncertainty(comparison: Comparison) -> list[str]:
    """Return what is folded away: where the uncertainty of the primary metric comes from."""
    rows = [
        [row.label, *(f"{each:.4f}" for each in row.spread)]
        for row in comparison.ranking()
        if row.spread is not None and all(math.isfinite(each) for each in row.spread)
    ]
    if not rows:
        return []
    words = (
        "Standard deviations of one seed's score: by which patients were tested, by the seed itself, and by how "
        "differently the same patients fall out for other seeds; then the standard error of the mean over seeds, which "
        "holds all three."
    )
    heads = ["strategy", "patients", "seeds", "both", "standard error"]
    return [folded("Patients or seeds? Where the uncertainty comes from", [paragraph(words), table(heads, rows)])]


def _written(row: Row | None) -> Any:
    if row is None or not math.isfinite(row.value):
        return UNDEFINED
    return Stacked(f"{row.value:.3f}", f"{row.low:.3f} to {row.high:.3f}")


def _seed_spread(row: Row) -> Any:
    if len(row.seeds) < 2:
        return "one seed"
    return Stacked(f"{row.seed_sd:.3f}", f"{len(row.seeds)} seeds") if math.isfinite(row.seed_sd) else UNDEFINED
