"""What may be shown of counts that add up, so that nobody can compute a small one from those beside it.

Reference:
    Hundepool, Domingo-Ferrer, Franconi, Giessing, Schulte Nordholt, Spicer, de Wolf. Statistical Disclosure Control.
    2012. Steps of a flow are put together until enough are left out; cells of a table are suppressed until what they
    add up to leaves each small one more than one value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from experiments.tasks.counts import LEAST, shown

HIDDEN, BELOW, MANY = "not shown", "counted below", f"{LEAST} or more"
Step = Mapping[str, Any]


def is_small(count: int) -> bool:
    """Tell whether a count may point at people."""
    return 0 < count < LEAST


def shown_flow(flow: Sequence[Step]) -> list[dict[str, str]]:
    """Return the steps of a flow with their counts as text.

    A step after which fewer than ten rows or patients are fewer is put together with its neighbours: between them
    `n` is not shown, and `left_out` is told once, of all of them. Where a whole flow leaves out fewer than ten, its
    first count is a range.
    """
    texts: list[dict[str, str]] = []
    starts = [place for place, step in enumerate(flow) if not place or _begins(flow[place - 1], step)]
    for start, end in pairwise([*starts, len(flow)]):
        texts += _part(flow[start:end])
    for before, after in pairwise(starts):
        last = flow[after - 1]
        if is_small(abs(last.get("patients", 0) - flow[after].get("patients", 0))):
            for text in texts[before:after]:
                text["patients"] = HIDDEN
    return texts


def _begins(before: Step, step: Step) -> bool:
    """Tell whether a step counts something else than the one before, as predictions of a stay."""
    return "left_out" not in step and before["n"] != step["n"]


def _part(steps: Sequence[Step]) -> list[dict[str, str]]:
    """Return the text of steps each of which counts some of those of the one before."""
    told, texts = _told(steps), []
    known = [(steps[place]["n"], steps[place].get("patients")) for place in told]
    for step in steps:
        text = {key: value if key == "step" else shown(value) for key, value in step.items()}
        if (step["n"], step.get("patients")) not in known:
            text |= dict.fromkeys({"n", "patients"} & set(step), HIDDEN)
        texts.append(text)
    for first, last in pairwise(told):
        _tell_left_out(steps, texts, first, last)
    for name in ("n", "patients"):
        _widen(steps, texts, name)
    if "positive" in steps[-1]:
        texts[-1]["positive"] = shown_positive(steps[-1]["positive"], steps[-1]["n"])
    return texts


def _told(steps: Sequence[Step]) -> list[int]:
    """Return the places whose counts may be told: the first, the last, and those far enough from their neighbours."""
    last = len(steps) - 1
    told = [0]
    for place in range(1, last + 1):
        if _apart(steps[told[-1]], steps[place]):
            told.append(place)
    while told[-1] != last and len(told) > 1 and not _apart(steps[told[-1]], steps[last]):
        told.pop()
    return told if told[-1] == last else [*told, last]


def _apart(first: Step, second: Step) -> bool:
    names = [name for name in ("n", "patients") if name in first and name in second]
    return not any(is_small(first[name] - second[name]) or is_small(second[name]) for name in names)


def _tell_left_out(steps: Sequence[Step], texts: Sequence[dict[str, str]], first: int, last: int) -> None:
    """Tell how many were left out between two places once, at the last step that left somebody out."""
    places = [place for place in range(first + 1, last + 1) if steps[place].get("left_out")]
    for place in places[:-1]:
        texts[place]["left_out"] = BELOW
    if places:
        together = steps[first]["n"] - steps[last]["n"]
        texts[places[-1]]["left_out"] = HIDDEN if is_small(steps[last]["n"]) else shown(together)


def _widen(steps: Sequence[Step], texts: Sequence[dict[str, str]], name: str) -> None:
    """Tell the first count as a range where it is nearly the last."""
    if name not in steps[0] or name not in steps[-1]:
        return
    first, last = steps[0][name], steps[-1][name]
    if is_small(first - last) and not is_small(last):
        for step, text in zip(steps, texts, strict=True):
            if step.get(name) == first and text.get(name) != HIDDEN:
                text[name] = f"{last + 1:,} to {last + LEAST - 1:,}"


def shown_positive(positive: int, rows: int) -> str:
    """Return how many of some rows are positive; where few are, or few are not, only that.

    Examples:
        >>> shown_positive(3, 100), shown_positive(95, 100), shown_positive(40, 100), shown_positive(100, 100)
        ('<10', '>90', '40', '100')
    """
    if is_small(rows - positive) and not is_small(positive):
        return f">{rows - LEAST:,}"
    return shown(positive)


def shown_parts(counts: Sequence[int]) -> list[str]:
    """Return the cells of a table whose sum is known: none from 1 to 9 can be computed from the others.

    Examples:
        >>> shown_parts([3, 20, 40]), shown_parts([3, 4, 40]), shown_parts([20, 40])
        (['<10', '10 or more', '40'], ['<10', '<10', '40'], ['20', '40'])
    """
    order = sorted((place for place, count in enumerate(counts) if count >= LEAST), key=lambda place: counts[place])
    hidden: list[int] = []
    while _computed(_bounds(counts, hidden), sum(counts)):
        if len(hidden) == len(order):
            return [HIDDEN if count else "0" for count in counts] if sum(counts) >= LEAST else list(map(shown, counts))
        hidden.append(order[len(hidden)])
    return [MANY if place in hidden else shown(count) for place, count in enumerate(counts)]


def _bounds(counts: Sequence[int], hidden: Sequence[int]) -> list[tuple[float, float]]:
    """Return what a reader knows of each count: from where to where it may lie."""
    bounds: list[tuple[float, float]] = []
    for place, count in enumerate(counts):
        if place in hidden:
            bounds.append((LEAST, float("inf")))
        else:
            bounds.append((1, LEAST - 1) if is_small(count) else (count, count))
    return bounds


def _computed(bounds: Sequence[tuple[float, float]], total: float) -> bool:
    """Tell whether some small count that is not shown has one value only, as all add up to the total."""
    for place, (low, high) in enumerate(bounds):
        others = [*bounds[:place], *bounds[place + 1 :]]
        least = max(low, total - sum(each[1] for each in others))
        most = min(high, total - sum(each[0] for each in others))
        if low < high and least == most and is_small(int(most)):
            return True
    return False


def shown_positives(positives: Sequence[int], rows: Sequence[int], texts: Sequence[str]) -> list[str]:
    """Return how many of the rows of each part are positive, where the sum is known.

    Args:
        texts: how many rows there are, as they are shown; where they are not, nothing is told of the positive ones.
    """
    parts = list(zip(positives, rows, strict=True))
    told = [text == f"{count:,}" for text, count in zip(texts, rows, strict=True)]
    order = sorted((place for place, each in enumerate(told) if each), key=lambda place: rows[place])
    while True:
        bounds = [_positive_bounds(*part, told=each) for part, each in zip(parts, told, strict=True)]
        negative = [(count - high, count - low) for (low, high), count in zip(bounds, rows, strict=True)]
        exact = not _computed(bounds, sum(positives)) and not _computed(negative, sum(rows) - sum(positives))
        if exact or not order:
            return [shown_positive(*part) if each else "" for part, each in zip(parts, told, strict=True)]
        told[order.pop(0)] = False


def _positive_bounds(positive: int, rows: int, *, told: bool) -> tuple[float, float]:
    if not told:
        return 0, rows
    if is_small(positive):
        return 1, min(rows, LEAST - 1)
    return (rows - LEAST + 1, rows - 1) if is_small(rows - positive) else (positive, positive)
