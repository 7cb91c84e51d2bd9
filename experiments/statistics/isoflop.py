"""IsoFLOP curves: the best size for a number of operations as the lowest point of a parabola, and how it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST_SIZES = 3
_STREAM = 70_302


@dataclass(frozen=True)
class Valley:
    """The lowest point of a parabola through losses of one budget, or why there is none.

    `draws` are places of refitted parabolas, NaN where they have no lowest point; none where nothing is left over of
    three sizes. `curve` are the coefficients in log place, the highest power first.

    Shape:
        curve (3,), draws (R,).
    """

    place: float | None
    loss: float | None
    curve: Array
    draws: Array
    refusal: str = ""


def valley(places: Array, loss: Array, draws: int = 0, seed: int = 0, noun: str = "size") -> Valley:
    """Fit a parabola in the logarithm of the place and return its lowest point.

    It is refused at the edge of the grid: where no smaller or no larger place was measured to be worse, where the
    curve has no lowest point, and where that lies outside of what was measured.

    Shape:
        places and loss (n,), n at least 3, places distinct.

    Raises:
        ValueError: fewer than three places.

    Reference:
        Hoffmann et al., Training Compute-Optimal Large Language Models, 2022 (approach 2).
    """
    if len(np.unique(places)) < LEAST_SIZES:
        raise ValueError(f"a parabola needs {LEAST_SIZES} of each {noun}; got {len(np.unique(places))}")
    order = np.argsort(places)
    x, y = np.log(places[order]), loss[order]
    curve = np.polyfit(x, y, 2)
    if refusal := _refusal(x, y, curve, noun):
        return Valley(None, None, curve, np.empty(0), refusal)
    lowest = -curve[1] / (2 * curve[0])
    found = np.empty(0)
    if draws and len(x) > LEAST_SIZES:
        expected = np.polyval(curve, x)
        rest = (y - expected) * (len(x) / (len(x) - 3)) ** 0.5
        signs = np.random.default_rng([_STREAM, seed]).choice([-1.0, 1.0], (draws, len(x)))
        again = np.polyfit(x, (expected + rest * signs).T, 2)
        inside = np.clip(-again[1] / (2 * np.where(again[0] > 0, again[0], 1.0)), x[0] - 20, x[-1] + 20)
        found = np.where(again[0] > 0, np.exp(inside), np.nan)
    return Valley(float(np.exp(lowest)), float(np.polyval(curve, lowest)), curve, found)


def power(budgets: Array, places: Sequence[Valley]) -> tuple[float, Array] | None:
    """Return the exponent a of place ~ budget^a and its draws; None with fewer than two lowest points.

    Shape:
        budgets (n,), places (n,) -> float and (R,), empty where a budget has no draws.
    """
    used = [(budget, each.place, each.draws) for budget, each in zip(budgets, places, strict=True) if each.place]
    if len(used) < 2:
        return None
    x = np.log([budget for budget, _, _ in used])
    x -= x.mean()
    value = x @ np.log([place for _, place, _ in used]) / (x @ x)
    draws = [each for _, _, each in used]
    if not all(len(each) for each in draws):
        return float(value), np.empty(0)
    return float(value), x @ np.log(np.stack(draws)) / (x @ x)


def _refusal(x: Array, y: Array, curve: Array, noun: str) -> str:
    """Say why the lowest point of a curve over rising places cannot be believed; nothing if it can."""
    least = int(np.argmin(y))
    low, high = (f"{np.exp(each):,.0f}" for each in (x[0], x[-1]))
    if least == 0:
        return f"the smallest {noun} tried, {low}, is the best: try a smaller {noun}"
    if least == len(x) - 1:
        return f"the largest {noun} tried, {high}, is the best: try a larger {noun}"
    if curve[0] <= 0:
        return f"losses between {noun} {low} and {high} are no valley: try both a smaller and a larger {noun}"
    lowest = -curve[1] / (2 * curve[0])
    if lowest <= x[0]:
        return f"the curve is lowest below the smallest {noun} tried, {low}: try a smaller {noun}"
    if lowest >= x[-1]:
        return f"the curve is lowest above the largest {noun} tried, {high}: try a larger {noun}"
    return ""
