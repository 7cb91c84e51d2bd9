"""A scaling study in words: how large a model the data are worth, and what the search is limited by."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from experiments.scaling.findings import Budget, Findings, Interval
from experiments.statistics.isoflop import LEAST_SIZES, Valley
from experiments.statistics.scaling import Surface, interval, interval_of

_SURE = 0.975  # of the draws agree
_POOR = 0.02  # relative error above which a surface is not believed


def in_words(found: Findings, unit: str, least_steps: int = 0) -> Iterator[str]:
    """Yield what a study found, line by line; `unit` is what data are counted in."""
    sizes = sorted({each.parameters for each in found.points})
    data = [each.data for each in found.points]
    yield (
        f"{len(found.points)} cells: {sizes[0]:,} to {sizes[-1]:,} parameters, {min(data):,.0f} to {max(data):,.0f} "
        f"{unit} seen"
    )
    if found.hasty:
        yield (
            f"no surface is fitted to {found.hasty} cells of fewer than {least_steps} steps, which have hardly left "
            "where they began; smaller batches or more epochs give more steps"
        )
    for budget in found.budgets:
        yield _of_budget(budget)
    for flops, count in found.unfit.items():
        yield f"{flops:.3g} operations: no parabola: {count} sizes can spend them here, {LEAST_SIZES} are needed"
    if found.budgets:
        yield _growth(found)
    if found.surface is None:
        yield f"no surface over sizes and data: {found.no_surface}"
        return
    yield _of_surface(found)
    yield from answer(found, found.surface, unit)


def answer(found: Findings, surface: Surface, unit: str) -> Iterator[str]:
    """Yield how large a model all data are worth, and whether data or parameters are what is short."""
    sizes = sorted({each.parameters for each in found.points})
    on_all = [each for each in found.points if each.share == 1.0]
    if len({each.parameters for each in on_all}) > 1:
        best = min(on_all, key=lambda each: each.loss)
        yield f"measured: of the sizes that learned from all {found.whole:,.0f} {unit}, {best.parameters:,} did best"
    if surface.error > _POOR:
        yield (
            f"how large a model is worth it, and what limits: not told, as the surface misses the cells by "
            f"{surface.error:.1%} on average; more epochs, another lr or more seeds may bring them closer to a law"
        )
        return
    if edge := surface.at_edge():
        yield (
            f"how large a model is worth it, and what limits: not told, as the exponent of {edge} lies at the edge of "
            "what is looked at; more sizes, shares or steps are needed"
        )
        return
    yield f"how large a model is worth it: {_worth(found, surface, sizes[0], sizes[-1], unit)}"
    of_size, of_data = surface.gains(sizes[-1], found.whole)
    agree = [each.gains(sizes[-1], found.whole) for each in found.draws]
    data_first = float(np.mean([by_data > by_size for by_size, by_data in agree])) if agree else math.nan
    gains = (
        f"with {sizes[-1]:,} parameters and all {unit}, doubling the parameters is fitted to lower the loss by "
        f"{of_size:.2g}, doubling the data by {of_data:.2g}"
    )
    if data_first >= _SURE:
        yield f"what limits: data ({gains})"
    elif data_first <= 1 - _SURE:
        yield f"what limits: parameters ({gains})"
    else:
        yield f"what limits: these cells do not tell ({gains}; data come first in {data_first:.0%} of refits)"


def _worth(found: Findings, surface: Surface, smallest: int, largest: int, unit: str) -> str:
    if surface.of_size <= 0:
        return f"the smallest tried, {smallest:,} parameters: the loss does not fall with size"
    if surface.of_data <= 0:
        return (
            "not told: the loss does not fall with more data, so that more sizes or a wider range of shares is needed"
        )
    worth = surface.worth(found.whole)
    if worth > largest:
        return f"more than the largest tried, {largest:,} parameters; try larger sizes before a number is believed"
    if worth < smallest:
        return f"less than the smallest tried, {smallest:,} parameters; try smaller sizes before a number is believed"
    bounds = interval_of(found.draws, lambda each: each.worth(found.whole))
    if bounds is not None and (bounds[0] < smallest or bounds[1] > largest):
        ends = "below the smallest tried" if bounds[0] < smallest else f"{bounds[0]:,.0f}"
        ends += " to " + ("above the largest tried" if bounds[1] > largest else f"{bounds[1]:,.0f}")
        return f"these cells do not tell: {worth:,.0f} parameters is the best guess, the interval is {ends}"
    return (
        f"about {worth:,.0f} parameters {_bounds(bounds, ',.0f')} for {found.whole:,.0f} {unit}; beyond, twice the "
        "data gain more than twice the size"
    )


def _of_budget(budget: Budget) -> str:
    found = budget.sizes
    if found.place is None:
        return f"{budget.flops:.3g} operations: no best size: {found.refusal}"
    return (
        f"{budget.flops:.3g} operations: best with {found.place:,.0f} parameters {_bounds(_interval(found), ',.0f')}, "
        f"loss {found.loss:.4f}"
    )


def _growth(found: Findings) -> str:
    both = found.exponents()
    if both is None:
        return (
            "how the best size grows with operations: not told, fewer than two budgets have a best size inside the grid"
        )
    (size, size_draws), (data, data_draws) = both
    return (
        f"the best size grows with operations C as C^{size:.2f} {_bounds(interval(size_draws), '.2f')}, the best "
        f"amount of data as C^{data:.2f} {_bounds(interval(data_draws), '.2f')} (parabolas)"
    )


def _of_surface(found: Findings) -> str:
    fitted = found.surface
    assert fitted is not None
    bounds = {
        name: _bounds(interval_of(found.draws, lambda each, name=name: getattr(each, name)), shape)  # type: ignore[misc]
        for name, shape in (("irreducible", ".4f"), ("alpha", ".2f"), ("beta", ".2f"))
    }
    a, b = fitted.exponents()
    return (
        f"loss = {fitted.irreducible:.4f} {bounds['irreducible']} + {fitted.of_size:.3g} / N^{fitted.alpha:.2f} "
        f"{bounds['alpha']} + {fitted.of_data:.3g} / D^{fitted.beta:.2f} {bounds['beta']}, off by {fitted.error:.2%} "
        f"on average; by it the best size grows as C^{a:.2f}, data as C^{b:.2f}"
    )


def _interval(found: Valley) -> Interval:
    return interval(found.draws)


def _bounds(found: Interval, shape: str) -> str:
    if found is None:
        return "(no interval: too few cells or refits without a lowest point)"
    return f"({found[0]:{shape}} to {found[1]:{shape}})"
