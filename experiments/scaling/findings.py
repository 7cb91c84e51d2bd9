"""What the cells of a scaling study come to: a surface, IsoFLOP parabolas, exponents, each with interval or reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.scaling.cell import Done
from experiments.statistics.isoflop import LEAST_SIZES, Valley, power, valley
from experiments.statistics.scaling import Surface, fit_surface, surface_draws

DRAWS = 200
Interval = tuple[float, float] | None
Array = NDArray[Any]


@dataclass(frozen=True)
class Point:
    """A cell, its seeds averaged."""

    parameters: int
    share: float
    budget: float | None
    patients: int
    steps: int
    data: float
    flops: float
    loss: float
    seeds: int


@dataclass(frozen=True)
class Budget:
    """One budget: the best size and the best amount of data for it."""

    flops: float
    sizes: Valley
    data: Valley


@dataclass(frozen=True)
class Findings:
    """All that is concluded; `no_surface` says why there is no surface, `unfit` which budgets have no parabola.

    `hasty` cells took too few steps to be on the surface.
    """

    points: list[Point]
    whole: float
    surface: Surface | None
    no_surface: str
    draws: list[Surface]
    budgets: list[Budget]
    unfit: dict[float, int]
    hasty: int = 0

    def exponents(self) -> tuple[tuple[float, Array], tuple[float, Array]] | None:
        """Return a and b of size ~ C^a and data ~ C^b of the parabolas with their draws; None with fewer than two."""
        flops = np.array([each.flops for each in self.budgets])
        sizes, data = (power(flops, [getattr(each, name) for each in self.budgets]) for name in ("sizes", "data"))
        return None if sizes is None or data is None else (sizes, data)


def averaged(done: Sequence[Done]) -> list[Point]:
    """Return a point a cell, the seeds of each averaged."""
    found: dict[tuple[int, float, float | None], list[Done]] = {}
    for each in done:
        found.setdefault((each.cell.size, each.cell.share, each.cell.budget), []).append(each)
    points = []
    for (_, share, budget), same in found.items():
        data, flops, loss = (
            float(np.mean([getattr(each, name) for each in same])) for name in ("data", "flops", "loss")
        )
        one = same[0]
        points.append(Point(one.parameters, share, budget, one.patients, one.steps, data, flops, loss, len(same)))
    return points


def columns(points: Sequence[Point]) -> tuple[Array, Array, Array]:
    """Return parameters, data and losses. Shape: (n,) each."""
    table = np.array([(each.parameters, each.data, each.loss) for each in points], np.float64).reshape(-1, 3)
    sizes, data, loss = table.T
    return sizes, data, loss


def conclude(done: Sequence[Done], whole: float, seed: int, least_steps: int = 0) -> Findings:
    """Fit what can be fitted, a surface to cells of enough steps.

    Args:
        whole: all data there are, each as often as it is seen.
    """
    points = averaged(done)
    settled = [each for each in points if each.steps >= least_steps]
    surface, draws, reason = None, [], ""
    sizes, data, loss = columns(settled)
    try:
        surface = fit_surface(sizes, data, loss)
        draws = surface_draws(sizes, data, loss, surface, DRAWS, seed)
    except ValueError as error:
        reason = str(error)
    budgets, unfit = [], {}
    for flops in sorted({each.budget for each in points if each.budget is not None}):
        mine = [each for each in points if each.budget == flops]
        sizes, data, loss = columns(mine)
        if min(len(np.unique(sizes)), len(np.unique(data))) < LEAST_SIZES:
            unfit[flops] = len(mine)
            continue
        pair = (valley(each, loss, DRAWS, seed, noun) for each, noun in ((sizes, "size"), (data, "amount of data")))
        budgets.append(Budget(flops, *pair))
    return Findings(points, whole, surface, reason, draws, budgets, unfit, len(points) - len(settled))
