"""The statistics of a comparison: every strategy on the same patients, resamples and seeds; paired differences."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.metrics import Metric, default_metric, metric_name, metrics_for
from experiments.statistics.bootstrap import Resamples, metric_distribution
from experiments.statistics.intervals import Interval, interval, two_sided_p
from experiments.statistics.multiple import holm
from fusion import Task

Array = NDArray[Any]
KINDS = ("fusion", "modality", "control", "training")
"""What a strategy is: a fusion of modalities, one modality alone, a control that is no network, a way to train."""


@dataclass(frozen=True)
class Row:
    """One metric of one strategy: mean over seeds, interval over patients, spread over seeds."""

    strategy: str
    kind: str
    metric: str
    value: float
    low: float
    high: float
    seed_sd: float
    seeds: tuple[float, ...]

    @property
    def label(self) -> str:
        """What the strategy is called in tables and pictures."""
        return {"modality": f"{self.strategy} only", "control": f"{self.strategy} (control)"}.get(
            self.kind, self.strategy
        )


@dataclass(frozen=True)
class Difference:
    """The first strategy's metric minus the second's, on the same resampled patients."""

    first: str
    second: str
    metric: str
    value: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and on what."""

    metric: str
    higher_is_better: bool
    rows: Sequence[Row]
    differences: Sequence[Difference]
    about: Mapping[str, Any] = field(default_factory=dict)

    def ranking(self) -> list[Row]:
        """Return the rows of the primary metric, best first."""
        mine = [row for row in self.rows if row.metric == self.metric]
        worst = -math.inf if self.higher_is_better else math.inf
        return sorted(
            mine, key=lambda row: row.value if math.isfinite(row.value) else worst, reverse=self.higher_is_better
        )

    def best(self, kind: str) -> Row | None:
        """Return the best strategy of a kind ("fusion" or "modality") by the primary metric."""
        return next((row for row in self.ranking() if row.kind == kind), None)

    def verdict(self) -> str:
        """Say in a sentence or two what the primary metric shows, and what it does not."""
        fusion, single, control = self.best("fusion"), self.best("modality"), self.best("control")
        if fusion is None or single is None:
            return self._verdict_on_training()
        first = f"best fusion: {fusion.strategy}, {metric_name(self.metric)} {_with_interval(fusion)}; "
        second = f"best single modality: {single.strategy}, {_with_interval(single)}; "
        text = first + second + self._gap(fusion, single)
        if control is not None:
            gap = self._gap(fusion, control)
            text += f". Control {control.strategy}, {_with_interval(control)}{'; ' if gap else ''}{gap}"
        return text

    def _verdict_on_training(self) -> str:
        """Say what the best way to train is, and how far it is from training without any strategy."""
        ranked = [row for row in self.ranking() if row.kind == "training"]
        if len(ranked) < 2:
            return "nothing to compare"
        best, plain = ranked[0], next((row for row in ranked if row.strategy == "plain"), ranked[-1])
        text = f"best training: {best.strategy}, {metric_name(self.metric)} {_with_interval(best)}"
        return text if best is plain else f"{text}; {plain.strategy}, {_with_interval(plain)}; {self._gap(best, plain)}"

    def _gap(self, first: Row, second: Row) -> str:
        """Say by how much the first strategy differs from the second, and whether that is shown."""
        pair = next((d for d in self.differences if {d.first, d.second} == {first.strategy, second.strategy}), None)
        if pair is None:
            return ""
        sign = 1 if pair.first == first.strategy else -1
        low, high = sorted((sign * pair.low, sign * pair.high))
        text = f"difference {sign * pair.value:+.3f} ({low:+.3f} to {high:+.3f}, Holm p {pair.p_holm:.3f})"
        shown = low > 0 or high < 0
        return text + ("" if shown and pair.p_holm < 0.05 else ": no difference shown")

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["strategy", "kind", "metric", "value", "low", "high", "seed_sd", "seeds"])
        for row in self.rows:
            numbers = [f"{value:.6f}" for value in (row.value, row.low, row.high, row.seed_sd)]
            writer.writerow([row.strategy, row.kind, row.metric, *numbers, len(row.seeds)])
        return text.getvalue()

    def differences_csv(self) -> str:
        """Return the differences as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["first", "second", "metric", "difference", "low", "high", "p", "p_holm"])
        for each in self.differences:
            numbers = [f"{value:.6f}" for value in (each.value, each.low, each.high, each.p, each.p_holm)]
            writer.writerow([each.first, each.second, each.metric, *numbers])
        return text.getvalue()

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(_finite(asdict(self)), indent=1)

    def render(self) -> Any:
        """Return rich tables: the metrics of each strategy, and differences from the best."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        names = list(dict.fromkeys(row.metric for row in self.rows))
        table = Table("strategy", *map(metric_name, names), title=self.about.get("title"))
        for ranked in self.ranking():
            cells = {row.metric: row for row in self.rows if row.strategy == ranked.strategy}
            label = ranked.label if ranked.kind == "fusion" else f"[dim]{ranked.label}[/dim]"
            table.add_row(label, *(_in_two_lines(cells[name]) if name in cells else "" for name in names))
        gaps = Table("first", "second", f"difference in {metric_name(self.metric)}", "p", "p (Holm)")
        for each in self.differences:
            span = f"{each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f})"
            gaps.add_row(each.first, each.second, span, f"{each.p:.3f}", f"{each.p_holm:.3f}")
        notes = [self.verdict(), *self.about.get("warnings", ())]
        return Group(table, gaps, *(Text(note) for note in notes))


def compare_predictions(
    task: Task,
    target: Array,
    subject_ids: Array,
    predictions: Mapping[str, Sequence[Array]],
    kinds: Mapping[str, str],
    *,
    metric: Metric | None = None,
    resamples: int = 1000,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare strategies by the predictions of several seeds each for the same rows.

    In every resample a metric is averaged over a strategy's seeds, so the interval is about patients; the spread over
    seeds is reported apart. Differences are those of the best strategy to each other one, and of the best fusion to the
    best single modality, corrected together by Holm's method.

    Shape:
        target (N,) or (N, K); subject_ids (N,); predictions: a list of (N,) or (N, K) for each strategy.
    """
    primary = metric or default_metric(task.kind)
    drawn = Resamples.draw(subject_ids, resamples, seed)
    rows: list[Row] = []
    distributions: dict[str, Array] = {}
    for strategy, found in predictions.items():
        for each in metrics_for(task.kind):
            row, distribution = _row(strategy, kinds[strategy], each, target, found, drawn)
            rows.append(row)
            if each.name == primary.name:
                distributions[strategy] = distribution
    values = {row.strategy: row.value for row in rows if row.metric == primary.name}
    differences = _differences(primary, values, kinds, distributions)
    return Comparison(primary.name, primary.higher_is_better, rows, differences, dict(about or {}))


def evaluate_predictions(
    task: Task, target: Array, subject_ids: Array, prediction: Array, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return every metric of one model with its interval. Shape: (N, ...), (N,), (N, ...)."""
    drawn = Resamples.draw(subject_ids, resamples, seed)
    found = {}
    for metric in metrics_for(task.kind):
        row, _ = _row("model", "model", metric, target, [prediction], drawn)
        found[metric.name] = Interval(row.value, row.low, row.high)
    return found


def _row(
    strategy: str, kind: str, metric: Metric, target: Array, found: Sequence[Array], drawn: Resamples
) -> tuple[Row, Array]:
    values = [metric(target, each) for each in found]
    distribution = np.mean([metric_distribution(metric, target, each, drawn) for each in found], axis=0)
    span = interval(float(np.mean(values)), distribution)
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Row(strategy, kind, metric.name, span.value, span.low, span.high, spread, tuple(values)), distribution


def _differences(
    metric: Metric, values: Mapping[str, float], kinds: Mapping[str, str], distributions: Mapping[str, Array]
) -> list[Difference]:
    order = sorted(values, key=lambda name: values[name], reverse=metric.higher_is_better)
    pairs = [(order[0], other) for other in order[1:]]
    tops = {kinds[name]: name for name in reversed(order)}  # the best of each kind
    pairs += [(tops["fusion"], tops[kind]) for kind in ("modality", "control") if "fusion" in tops and kind in tops]
    pairs = [pair for i, pair in enumerate(pairs) if {*pair} not in [{*other} for other in pairs[:i]]]
    gaps = [distributions[first] - distributions[second] for first, second in pairs]
    p_values = [two_sided_p(gap) for gap in gaps]
    spans = [interval(values[a] - values[b], gap) for (a, b), gap in zip(pairs, gaps, strict=True)]
    return [
        Difference(first, second, metric.name, span.value, span.low, span.high, p, corrected)
        for (first, second), span, p, corrected in zip(pairs, spans, p_values, holm(p_values), strict=True)
    ]


def _with_interval(row: Row) -> str:
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})"


def _in_two_lines(row: Row) -> str:
    return f"{row.value:.3f}\n({row.low:.3f} to {row.high:.3f})"


def _finite(value: Any) -> Any:
    """Turn numbers that are none into null, which strict JSON can hold."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
