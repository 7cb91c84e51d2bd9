"""Differences between strategies, drawn around zero: over patients, and across folds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.metrics import metric_name
from experiments.reporting.charts import Scale, axis, interval
from experiments.reporting.page import Part, image, paragraph
from experiments.reporting.rank_diagram import in_words, rank_diagram_png
from experiments.reporting.table import UNDEFINED, Stacked, probability, table

if TYPE_CHECKING:
    from experiments.comparison import Comparison
    from experiments.differences import AcrossFolds, Difference


def gaps_part(comparison: Comparison) -> Part:
    """Return the paired differences over patients."""
    scale = Scale.over([0.0, *(each for gap in comparison.differences for each in (gap.low, gap.high))])
    rows = [_difference(each, scale) for each in comparison.differences]
    words = (
        "First minus second, on the same resampled patients; the last p values are adjusted for all pairs of "
        "strategies, because who leads was seen first. An interval that includes zero shows no difference, which is "
        "not the same as showing that there is none. "
        f"{'Higher' if comparison.higher_is_better else 'Lower'} is better; a hollow mark is a difference that is not "
        "shown. The size of a lead is somewhat flattered, because the leader was found on these same patients."
    )
    heads = ["first and second", axis(scale, signed=True), "difference", "p", "p (all pairs)", "shown?"]
    return Part(
        f"Differences in {metric_name(comparison.metric)}", [paragraph(words), table(heads, rows, name="differences")]
    )


def folds_part(comparison: Comparison) -> Part | None:
    """Return the part on folds: whether differences hold where models were trained on other patients."""
    found = [(each, each.across) for each in comparison.differences if each.across is not None]
    if not found:
        return None
    scale = Scale.over([0.0, *(each for _, over in found for each in (over.low, over.high))])
    words = (
        "Intervals and p values above are about patients, for the models that were trained. These are about training "
        "on other patients: a t test corrected for the training patients that folds share (Nadeau and Bengio), flips "
        "of the signs of folds, and how probably the first is lower, practically equal or higher (Bayesian signed "
        "ranks). Seeds of a fold count once."
    )
    heads = ["first and second", axis(scale, signed=True), "95% interval", "same sign", "p (t)", "p (flips)"]
    heads.append("lower, equal, higher")
    body = [
        paragraph(words),
        table(heads, [_over_folds(each, over, scale) for each, over in found], name="across folds"),
    ]
    if comparison.ranks is not None:
        body.append(image(rank_diagram_png(comparison.ranks), in_words(comparison.ranks)))
        body.append(
            paragraph(
                "Mean rank of each strategy over folds, 1 is best. Strategies under one thick bar are not shown to "
                "differ at 5%.",
                "note",
            )
        )
    return Part("Across folds", body)


def _difference(each: Difference, scale: Scale) -> list[Any]:
    """Return the cells of a difference; it is shown where neither the interval nor the p value doubts it."""
    if not math.isfinite(each.value) or not math.isfinite(each.p_all):
        return [_pair(each), "", UNDEFINED, "", "", ""]
    words = "yes" if each.shown else "no difference shown"
    said = f"{each.first} minus {each.second}: {each.value:+.3f} ({each.low:+.3f} to {each.high:+.3f}), shown: {words}"
    kind = "shown" if each.shown else "open"
    drawn = interval(scale, each.value, each.low, each.high, said, kind=kind, reference=0.0)
    number = Stacked(f"{each.value:+.3f}", f"{each.low:+.3f} to {each.high:+.3f}")
    return [_pair(each), drawn, number, probability(each.p), probability(each.p_all), words]


def _pair(each: Difference) -> Stacked:
    return Stacked(each.first, f"minus {each.second}")


def _over_folds(each: Difference, over: AcrossFolds, scale: Scale) -> list[Any]:
    defined = over.practical is not None and math.isfinite(over.practical.equal)
    likely = ", ".join(f"{share:.0%}" for share in over.practical) if over.practical and defined else "no region stated"
    p_values = [probability(p) for p in (over.p, over.p_flips)]
    signs = f"{over.same_sign} of {over.folds}"
    if not math.isfinite(over.low):
        return [_pair(each), "", UNDEFINED, signs, *p_values, likely]
    span = f"{over.low:+.3f} to {over.high:+.3f}"
    kind = "shown" if over.p < 0.05 else "open"
    said = f"{each.first} minus {each.second} across folds: {span}"
    drawn = interval(scale, each.value, over.low, over.high, said, kind=kind, reference=0.0)
    return [_pair(each), drawn, span, signs, *p_values, likely]
