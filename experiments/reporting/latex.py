"""Tables of a comparison for a paper: LaTeX with booktabs and graphicx, and the leaderboard as CSV."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.comparison import to_csv
from experiments.metrics import metric_name
from experiments.reporting.leaderboard import KIND_WORDS
from experiments.statistics.intervals import Interval

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row
    from experiments.differences import Difference
    from experiments.section import Section

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u00b2": r"\textsuperscript{2}",
    "\u2212": "$-$",
    "\u2013": "--",
    "\u2014": "---",
    "\u2026": r"\dots{}",
    "\u2019": "'",
    **{each: f"\\{each}" for each in "&%$#_"},
}
_UNDEFINED = "n.d."
_NEEDS = "% needs \\usepackage{booktabs,graphicx}; n.d.: not defined"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # smaller where it is wider than the page


def comparison_tex(comparison: Comparison) -> str:
    """Return the leaderboard and the differences as two tables."""
    primary = metric_name(comparison.metric)
    metrics = list(dict.fromkeys(row.metric for row in comparison.rows))
    metrics.sort(key=lambda name: name != comparison.metric)  # the primary one first
    cells = {(row.strategy, row.metric): row for row in comparison.rows}
    board = [
        [escape(row.label), escape(KIND_WORDS.get(row.kind, row.kind))]
        + [_interval(cells.get((row.strategy, metric))) for metric in metrics]
        for row in comparison.ranking()
    ]
    heads = ["Strategy", "Kind", *map(metric_name, metrics)]
    gaps = [_difference(each) for each in comparison.differences]
    best = "higher" if comparison.higher_is_better else "lower"
    caption = f"Strategies ranked by {primary} ({best} is better); 95% intervals over patients, means over seeds."
    about = f"Differences in {primary} on the same resampled patients, adjusted for all pairs of strategies."
    gap_heads = ["First", "Second", "First minus second", "$p$", "$p$ (all pairs)"]
    return "\n".join(
        [
            _NEEDS,
            _tabular(caption, "tab:leaderboard", [escape(each) for each in heads], board),
            _tabular(about, "tab:differences", gap_heads, gaps),
        ]
    )


def sections_tex(sections: Sequence[Section]) -> str:
    """Return every table of sections, with the question it answers and its note as the caption."""
    found = [_NEEDS]
    for section in sections:
        for name, each in section.tables.items():
            question = section.title if section.title.endswith("?") else f"{section.title}:"
            caption = f"{question} {name.replace('_', ' ')}. {each.note}".strip()
            rows = [[_cell(value) for value in row] for row in each.rows]
            found.append(_tabular(caption, f"tab:{name}", [escape(str(head)) for head in each.heads], rows))
    return "\n".join(found)


def leaderboard_csv(comparison: Comparison) -> str:
    """Return the leaderboard, one strategy a line; what is not defined is empty."""
    metrics = list(dict.fromkeys(row.metric for row in comparison.rows))
    cells = {(row.strategy, row.metric): row for row in comparison.rows}
    heads = ["rank", "strategy", "kind"]
    heads += [f"{metric}{part}" for metric in metrics for part in ("", "_low", "_high")]
    heads += [f"seed_sd_of_{comparison.metric}", "seeds", "seconds", "parameters"]
    costs = comparison.about.get("costs", {})
    rows: list[list[Any]] = []
    for place, row in enumerate(comparison.ranking(), start=1):
        mine = [cells.get((row.strategy, metric)) for metric in metrics]
        spans = [value for each in mine for value in ((each.value, each.low, each.high) if each else ("", "", ""))]
        cost = costs.get(row.strategy, {})
        last = [row.seed_sd, len(row.seeds), cost.get("seconds", ""), cost.get("parameters", "")]
        rows.append([place, row.strategy, row.kind, *spans, *last])
    return to_csv(heads, rows)


def escape(text: str) -> str:
    """Return a text that every LaTeX sets as it is; letters with accents lose them, others become question marks.

    Examples:
        >>> escape("cross_attention & 5%")
        'cross\\\\_attention \\\\& 5\\\\%'
    """
    return "".join(_SPECIAL.get(each) or _ascii(each) for each in text)


def _ascii(letter: str) -> str:
    return letter if letter.isascii() else unicodedata.normalize("NFKD", letter)[0].encode("ascii", "replace").decode()


def _tabular(caption: str, label: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    columns = "l" * 2 + "r" * (len(heads) - 2)
    lines = [" & ".join(row) + r" \\" for row in rows]
    apart = "\n\\addlinespace[3pt]\n" if any(r"\shortstack" in line for line in lines) else "\n"
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            _FIT,
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            apart.join(lines),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


def _cell(value: Any) -> str:
    """Return a cell of a section's table: numbers with three digits, what is not defined in words."""
    if isinstance(value, Interval):
        if not math.isfinite(value.value):
            return _UNDEFINED
        ends = [f"{each:.3f}" if math.isfinite(each) else "no bound" for each in (value.low, value.high)]
        return _stacked(f"${value.value:.3f}$", " to ".join(ends).replace("-", "$-$"))
    if isinstance(value, float):
        return f"${value:.3f}$" if math.isfinite(value) else _UNDEFINED
    return escape(str(value))


def _interval(row: Row | None) -> str:
    if row is None or not math.isfinite(row.value):
        return _UNDEFINED
    return _stacked(f"{row.value:.3f}", f"{row.low:.3f}--{row.high:.3f}")


def _stacked(value: str, span: str) -> str:
    """Return a value above its interval, which halves the width of a table."""
    return rf"\shortstack[r]{{{value}\\{{\scriptsize {span}}}}}"


def _difference(each: Difference) -> list[str]:
    names = [escape(each.first), escape(each.second)]
    if not math.isfinite(each.value):
        return [*names, _UNDEFINED, _UNDEFINED, _UNDEFINED]
    span = f"${each.value:+.3f}$ (${each.low:+.3f}$ to ${each.high:+.3f}$)"
    return [*names, span, _p(each.p), _p(each.p_all)]


def _p(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else _UNDEFINED
