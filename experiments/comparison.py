"""The statistics of a comparison: every strategy on the same patients, resamples and seeds; paired differences."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.differences import AcrossFolds, Difference, differences, pairs
from experiments.footnotes import footnotes
from experiments.metrics import Metric, default_metric, metric_name, metrics_for
from experiments.scoring import Score, Tested, mean_score
from experiments.statistics.intervals import Interval
from experiments.statistics.ranks import Ranks, mean_ranks
from experiments.statistics.spread import Spread, spread
from fusion import Task, UsageError

Array = NDArray[Any]
KINDS = ("fusion", "modality", "control", "training", "without")
"""What a strategy is: a fusion of modalities, one modality alone, a control that is no network, a way to train, a
fusion of all modalities but one."""


@dataclass(frozen=True)
class Row:
    """One metric of one strategy: mean over seeds and folds, interval over patients, spread over seeds.

    `seeds` are its values by seed, `folds` by fold; `spread` is there for the primary metric only.
    """

    strategy: str
    kind: str
    metric: str
    value: float
    low: float
    high: float
    seed_sd: float
    seeds: tuple[float, ...]
    folds: tuple[float, ...] = ()
    spread: Spread | None = None

    @property
    def label(self) -> str:
        """What the strategy is called in tables and pictures."""
        return {"modality": f"{self.strategy} only", "control": f"{self.strategy} (control)"}.get(
            self.kind, self.strategy
        )


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and on what."""

    metric: str
    higher_is_better: bool
    rows: Sequence[Row]
    differences: Sequence[Difference]
    about: Mapping[str, Any] = field(default_factory=dict)
    ranks: Ranks | None = None
    footnotes: Sequence[str] = ()

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
        if self.rows and not math.isfinite(self.ranking()[0].value):
            return f"{metric_name(self.metric)} is not defined on these patients: nothing can be said of what is best"
        fusion, single = self.best("fusion"), self.best("modality")
        if fusion is None and single is not None:
            first = f"one modality, {single.strategy}, {metric_name(self.metric)} {_with_interval(single)}"
            return first + self._beside_control(single)
        if fusion is None or single is None:
            return self._verdict_on_training()
        first = f"best fusion: {fusion.strategy}, {metric_name(self.metric)} {_with_interval(fusion)}; "
        second = f"best single modality: {single.strategy}, {_with_interval(single)}; "
        return first + second + self._gap(fusion, single) + self._beside_control(fusion)

    def _beside_control(self, best: Row) -> str:
        """Say what the best control is, and how far what is best is from it."""
        control = self.best("control")
        if control is None:
            return ""
        gap = self._gap(best, control)
        return f". Control {control.strategy}, {_with_interval(control)}{'; ' if gap else ''}{gap}"

    def _verdict_on_training(self) -> str:
        """Say what the best way to train is, and how far it is from training without any strategy."""
        ranked = [row for row in self.ranking() if row.kind == "training"]
        if len(ranked) < 2:
            return "nothing to compare"
        best, plain = ranked[0], next((row for row in ranked if row.strategy == "plain"), ranked[-1])
        text = f"best training: {best.strategy}, {metric_name(self.metric)} {_with_interval(best)}"
        if best is not plain:
            text += f"; {plain.strategy}, {_with_interval(plain)}; {self._gap(best, plain)}"
        return text + self._beside_control(best)

    def _gap(self, first: Row, second: Row) -> str:
        """Say by how much the first strategy differs from the second, and whether that is shown."""
        pair = next((d for d in self.differences if {d.first, d.second} == {first.strategy, second.strategy}), None)
        if pair is None:
            return ""
        if not math.isfinite(pair.value):
            return "difference not defined"
        sign = 1 if pair.first == first.strategy else -1
        low, high = sorted((sign * pair.low, sign * pair.high))
        text = f"difference {sign * pair.value:+.3f} ({low:+.3f} to {high:+.3f}, p {pair.p_all:.3f} over all pairs)"
        text += "" if pair.shown else ": no difference shown"
        return text + (f" ({_over_folds(pair.across)})" if pair.across is not None else "")

    def to_csv(self) -> str:
        """Return the rows as CSV; what is not defined is empty, and the footnotes say why."""
        heads = ["strategy", "kind", "metric", "value", "low", "high", "seed_sd", "seeds"]
        return to_csv(
            heads,
            [
                [row.strategy, row.kind, row.metric, row.value, row.low, row.high, row.seed_sd, len(row.seeds)]
                for row in self.rows
            ],
        )

    def differences_csv(self) -> str:
        """Return the differences as CSV; columns on folds are empty where there is one."""
        heads = ["first", "second", "metric", "difference", "low", "high", "p", "p_holm", "p_all", "p_fdr", "p_delong"]
        heads += ["folds_low", "folds_high", "folds_p", "folds_p_flips", "lower", "equal", "higher"]
        rows: list[list[Any]] = []
        for each in self.differences:
            over, likely = each.across, each.across.practical if each.across is not None else None
            row = [each.first, each.second, each.metric, each.value, each.low, each.high, each.p, each.p_holm]
            row += [each.p_all, each.p_fdr, each.p_delong]
            row += [over.low, over.high, over.p, over.p_flips] if over is not None else [""] * 4
            rows.append([*row, *(likely if likely is not None else [""] * 3)])
        return to_csv(heads, rows)

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(_finite(asdict(self)), indent=1)

    def render(self) -> Any:
        """Return rich tables: the metrics of each strategy, and differences from the best."""
        from experiments.comparison_table import comparison_table

        return comparison_table(self)


def compare_predictions(
    task: Task,
    target: Array,
    subject_ids: Array,
    predictions: Mapping[str, Sequence[Array]],
    kinds: Mapping[str, str],
    *,
    fold: Array | None = None,
    metric: Metric | None = None,
    resamples: int = 1000,
    seed: int = 0,
    bca: bool = False,
    equivalence: float | None = None,
    about: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare strategies by the predictions of several seeds each for the same rows.

    In every resample a metric is averaged over a strategy's seeds (and folds, each evaluated by itself, because models
    of other folds need not be calibrated alike), so the interval is about patients; the spread over seeds is reported
    apart. Differences are those of the best strategy to each other one, and of the best fusion to the best single
    modality; p values are adjusted for all pairs of strategies, because who leads is seen first. With two folds or more
    differences are tested across folds too.

    Args:
        task: what is predicted.
        target: the truth. Shape: (N,) or (N, K).
        subject_ids: whose rows they are. Shape: (N,).
        predictions: a list, one a seed, for each strategy. Shape: (N,) or (N, K) each.
        kinds: what each strategy is, of `KINDS`.
        fold: in which fold a row was held out; all in one unless given. Shape: (N,) int64.
        metric: the primary one.
        resamples: how many.
        seed: of resamples, sign flips and the Bayesian test.
        bca: BCa intervals instead of percentiles.
        equivalence: differences up to this size do not matter.
        about: what else the report says.

    Raises:
        UsageError: a prediction is not finite.
    """
    _check_finite(predictions)
    primary, metrics = metric or default_metric(task.kind), metrics_for(task.kind)
    tested = Tested.of(target, subject_ids, fold, resamples=resamples, seed=seed, bca=bca)
    rows: list[Row] = []
    scores: dict[str, Score] = {}
    for strategy, found in predictions.items():
        by_seed = [tested.score(metrics, each) for each in found]
        for each in metrics:
            mine = [one[each.name] for one in by_seed]
            row = _row(strategy, kinds[strategy], each.name, mine)
            if each.name == primary.name:
                scores[strategy] = mean_score(mine)
                row = replace(row, spread=spread(np.array(row.seeds), np.stack([one.distribution for one in mine])))
            rows.append(row)
    values = {strategy: each.value for strategy, each in scores.items()}
    compared = pairs(values, kinds, higher_is_better=primary.higher_is_better)
    gaps = differences(primary, compared, scores, predictions, tested, equivalence=equivalence, seed=seed)
    return Comparison(
        primary.name,
        primary.higher_is_better,
        rows,
        gaps,
        dict(about or {}),
        _ranks(primary, [row for row in rows if row.metric == primary.name]),
        footnotes(primary, rows, gaps, scores, predictions),
    )


def evaluate_predictions(
    task: Task, target: Array, subject_ids: Array, prediction: Array, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Return every metric of one model with its interval. Shape: (N, ...), (N,), (N, ...)."""
    tested = Tested.of(target, subject_ids, resamples=resamples, seed=seed)
    return {name: each.interval for name, each in tested.score(metrics_for(task.kind), prediction).items()}


def _row(strategy: str, kind: str, metric: str, scores: Sequence[Score]) -> Row:
    """Return a metric of a strategy from the scores of its seeds."""
    values, mean = [each.value for each in scores], mean_score(scores)
    span = mean.interval
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    folds = tuple(float(each) for each in mean.folds) if len(mean.folds) > 1 else ()
    return Row(strategy, kind, metric, span.value, span.low, span.high, sd, tuple(values), folds)


def _ranks(metric: Metric, rows: Sequence[Row]) -> Ranks | None:
    """Rank strategies over folds, where there are three of them and two folds or more."""
    ranked = [row for row in rows if row.folds and math.isfinite(row.value)]
    if len(ranked) < 3:
        return None
    scores = np.array([row.folds for row in ranked]).T
    return mean_ranks([row.label for row in ranked], scores, higher_is_better=metric.higher_is_better)


def _check_finite(predictions: Mapping[str, Sequence[Array]]) -> None:
    for strategy, found in predictions.items():
        for place, each in enumerate(found):
            wrong = int((~np.isfinite(each)).sum())
            if wrong:
                raise UsageError(f"{strategy}: {wrong} of {each.size} predictions of seed {place} are not finite")


def _over_folds(across: AcrossFolds) -> str:
    """Say whether a difference holds in every fold."""
    p = f"corrected t p {across.p:.3f}" if math.isfinite(across.p) else "corrected t not defined"
    return f"same sign in {across.same_sign} of {across.folds} folds, {p}"


def _with_interval(row: Row) -> str:
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" if math.isfinite(row.value) else "not defined"


def to_csv(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return lines of CSV; numbers have six significant digits, and what is not defined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    for row in rows:
        writer.writerow([_cell(each) for each in row])
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def _finite(value: Any) -> Any:
    """Turn arrays into lists, and numbers that are none into null, which strict JSON can hold."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _finite(value._asdict())
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
