"""What a comparison found, for somebody who knows no statistics: a headline, what it means, and three numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.metrics import metric_name
from experiments.reporting.page import Part, paragraph, text

if TYPE_CHECKING:
    from experiments.comparison import Comparison, Row
    from experiments.differences import Difference


class Finding(NamedTuple):
    """The two strategies that the headline is about, and their difference."""

    first: Row
    second: Row
    gap: Difference | None

    @property
    def lead(self) -> float:
        """By how much the first is above the second; NaN where that is not defined."""
        if self.gap is None:
            return math.nan
        return self.gap.value if self.gap.first == self.first.strategy else -self.gap.value


def verdict_part(comparison: Comparison) -> Part:
    """Return the first part of the page: the headline, what it means, the numbers behind it."""
    found = finding(comparison)
    more = [each for each in (_top(comparison, found), _control(comparison, found)) if each]
    body = [
        "<div class='found'><div class='verdict'>",
        _pill(found),
        paragraph(headline(comparison), "headline"),
        *([paragraph(meaning(comparison))] if found is not None else []),
        *map(paragraph, more),
        paragraph(f"In numbers: {comparison.verdict()}.", "numbers"),
        "</div>",
        *([_cards(comparison, found)] if found is not None else []),
        "</div>",
    ]
    return Part("What was found", body)


def finding(comparison: Comparison) -> Finding | None:
    """Return what the headline is about: the best fusion and the best single modality, or two ways to train."""
    first, second = comparison.best("fusion"), comparison.best("modality")
    if first is None or second is None:
        ranked = [row for row in comparison.ranking() if row.kind == "training"]
        if len(ranked) < 2:
            return None
        plain = next((row for row in ranked if row.strategy == "plain"), ranked[-1])
        first, second = ranked[0], plain if plain is not ranked[0] else ranked[1]
    if not (math.isfinite(first.value) and math.isfinite(second.value)):
        return None
    return Finding(first, second, _gap(comparison, first, second))


def headline(comparison: Comparison) -> str:
    """Say in one sentence what is shown and what is not."""
    found = finding(comparison)
    if found is None:
        undefined = comparison.rows and not math.isfinite(comparison.ranking()[0].value)
        name = metric_name(comparison.metric)
        return f"{name} is not defined on these patients: nothing can be said." if undefined else "Nothing to compare."
    first, second = found.first.strategy, found.second.strategy
    training = found.first.kind == "training"
    if found.gap is None or not found.gap.shown:
        kinds = ("the best way to train", "the other") if training else ("the best fusion", "the best single modality")
        return f"No difference is shown between {kinds[0]}, {first}, and {kinds[1]}, {second}."
    better = (found.lead > 0) == comparison.higher_is_better
    if training:
        return f"Training with {first} predicts better than {second}."
    if better:
        return f"Fusion helps: {first} predicts better than the best single modality, {second}."
    return f"Fusion does not help here: {second} alone predicts better than the best fusion, {first}."


def meaning(comparison: Comparison) -> str:
    """Say what the numbers of the headline mean without any term of statistics."""
    found = finding(comparison)
    if found is None:
        return ""
    sentence = _in_plain_words(found.first, found.second, comparison.about)
    if found.gap is not None and found.gap.shown:
        return f"{sentence} Chance alone would rarely make a gap as clear as this one."
    return f"{sentence} With this many patients such a gap can come about by chance: it proves neither of them better."


def _in_plain_words(first: Row, second: Row, about: Mapping[str, Any]) -> str:
    """Say what the metric of two strategies is, in numbers of patients where it can be."""
    one, other = f"{first.value:.0%}", f"{second.value:.0%}"
    match first.metric:
        case "auroc":
            return (
                f"Take any patient with the outcome and any without: {first.strategy} gives the one with it the higher "
                f"risk in {one} of such pairs, {second.strategy} in {other}. Tossing a coin would be right in 50%."
            )
        case "auprc":
            random = f"{about['events'] / about['rows']:.0%}" if about.get("rows") and "events" in about else ""
            return (
                "Call patients one by one, from the highest risk down: of those called when one with the outcome comes "
                f"up, on average {one} have it with {first.strategy}, {other} with {second.strategy}."
            ) + (f" In a random order, {random} would." if random else "")
        case "accuracy":
            return f"{first.strategy} names the right class for {one} of the patients, {second.strategy} for {other}."
        case "mae" | "rmse":
            one, other = f"{first.value:.3g}", f"{second.value:.3g}"
            return f"{first.strategy} is off by about {one}, {second.strategy} by {other}, in the unit of the outcome."
    name = metric_name(first.metric)
    return f"{name} is {first.value:.3f} for {first.strategy} and {second.value:.3f} for {second.strategy}."


def _top(comparison: Comparison, found: Finding | None) -> str:
    """Say what leads where it is neither of the two that the headline is about."""
    top = comparison.ranking()[0] if comparison.rows else None
    if found is None or top is None or top.strategy in (found.first.strategy, found.second.strategy):
        return ""
    gap = _gap(comparison, top, found.first)
    if gap is None or not math.isfinite(gap.value):
        return ""
    shown = "is shown" if gap.shown else "is not shown"
    return f"On top of the leaderboard is '{top.label}'; that it differs from {found.first.strategy} {shown}."


def _control(comparison: Comparison, found: Finding | None) -> str:
    """Say how the best control does: whoever fuses should know what boosted trees on counts would have given."""
    control = comparison.best("control")
    if found is None or control is None or not math.isfinite(control.value):
        return ""
    gap = _gap(comparison, found.first, control)
    if gap is None or not math.isfinite(gap.value):
        return ""
    said = f"the control without any network, {control.strategy}"
    if not gap.shown:
        return (
            f"No difference is shown to {said}, either." if not _shown(found) else f"No difference is shown to {said}."
        )
    above = gap.value if gap.first == found.first.strategy else -gap.value
    better = (above > 0) == comparison.higher_is_better
    return f"The best fusion {'predicts better' if better else 'predicts worse'} than {said}."


def _pill(found: Finding | None) -> str:
    if found is None:
        return "<span class='pill bad'>nothing can be said</span>"
    kind, words = ("good", "difference shown") if _shown(found) else ("doubt", "no difference shown")
    return f"<span class='pill {kind}'>{words}</span>"


def _shown(found: Finding) -> bool:
    return found.gap is not None and found.gap.shown


def _cards(comparison: Comparison, found: Finding) -> str:
    name = metric_name(comparison.metric)
    training = found.first.kind == "training"
    kinds = ("best training", "held against") if training else ("best fusion", "best single modality")
    cards = [
        _card(f"{kind}: {row.strategy}", f"{row.value:.3f}", f"{name}, 95% interval {row.low:.3f} to {row.high:.3f}")
        for kind, row in zip(kinds, (found.first, found.second), strict=True)
    ]
    if found.gap is not None and math.isfinite(found.gap.value):
        sign = 1 if found.gap.first == found.first.strategy else -1
        low, high = sorted((sign * found.gap.low, sign * found.gap.high))
        cards.append(_card("difference", f"{found.lead:+.3f}", f"95% interval {low:+.3f} to {high:+.3f}"))
    return f"<div class='cards'>{''.join(cards)}</div>"


def _card(above: str, number: str, below: str) -> str:
    return f"<div class='card'><span>{text(above)}</span><b>{text(number)}</b><span>{text(below)}</span></div>"


def _gap(comparison: Comparison, first: Row, second: Row) -> Difference | None:
    return next((d for d in comparison.differences if {d.first, d.second} == {first.strategy, second.strategy}), None)
