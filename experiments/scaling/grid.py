"""The cells of a scaling study: which sizes go with which shares and budgets, and whether they can tell anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.scaling.cell import Bench, Cell, Cost
from experiments.statistics.isoflop import LEAST_SIZES
from experiments.statistics.scaling import LEAST_CELLS, LEAST_LEVELS
from fusion import UsageError

_FEW = 10  # patients below which a cell tells nothing
_WHOLE = 1.02  # a budget of two in a hundred more than all data is all data


def plan_cells(bench: Bench, costs: Sequence[Cost]) -> list[Cell]:
    """Return every cell of a study.

    Raises:
        UsageError: nobody has a token; no size can spend a budget; the cells are too few for a surface or a parabola.
    """
    learned, _ = bench.rows()
    patients, data = len(np.unique(bench.store.cohort.subject_ids[learned])), bench.data(learned)
    if not data:
        raise UsageError(
            f"empty timelines: none of {patients:,} training patients has a {bench.settings.modality} token"
        )
    pairs: list[tuple[int, float, float | None]] = []
    for share in bench.settings.shares:
        if round(share * patients) < _FEW:
            raise UsageError(
                f"scaling.shares: {share:g} of {patients:,} patients who are learned from is fewer than {_FEW}"
            )
        pairs += [(size, share, None) for size in range(len(costs))]
    for budget in bench.settings.flops:
        pairs += _spent(bench, costs, budget, patients, data)
    _check_enough(costs, pairs)
    seeds = range(bench.config.seed, bench.config.seed + bench.settings.seeds)
    return [Cell(*pair, seed) for pair in pairs for seed in seeds]


def _spent(
    bench: Bench, costs: Sequence[Cost], budget: float, patients: int, data: int
) -> list[tuple[int, float, float | None]]:
    """Return the sizes that can spend a budget, with the share of the data that it pays for."""
    wholes = [price.flops * data * bench.settings.epochs for price in costs]
    shares = [budget / whole for whole in wholes]
    found = [(i, min(1.0, share)) for i, share in enumerate(shares) if share <= _WHOLE and share * patients >= _FEW]
    if not found:
        least, most = min(wholes) * _FEW / patients, max(wholes)
        advice = "more scaling.epochs, data or larger sizes" if budget > most else "smaller sizes"
        raise UsageError(
            f"scaling.flops: no size can spend {budget:.3g}: {_FEW} patients take at least {least:.3g} operations and "
            f"all take at most {most:.3g}; give a budget between them, or {advice}"
        )
    return [(i, share, budget) for i, share in found]


def _check_enough(costs: Sequence[Cost], pairs: Sequence[tuple[int, float, float | None]]) -> None:
    """Check that the cells suffice for a surface, or those of some budget for a parabola."""
    sizes = {costs[size].parameters for size, _, _ in pairs}
    cells, shares = {(size, share) for size, share, _ in pairs}, {share for _, share, _ in pairs}
    surface = len(cells) >= LEAST_CELLS and len(sizes) >= LEAST_LEVELS and len(shares) >= LEAST_LEVELS
    budgets = [budget for _, _, budget in pairs if budget is not None]
    if surface or any(budgets.count(each) >= LEAST_SIZES for each in budgets):
        return
    raise UsageError(
        f"too few cells: {len(sizes)} sizes and {len(shares)} amounts of data that can be trained; a scaling law needs "
        f"{LEAST_LEVELS} of each, or a budget that {LEAST_SIZES} sizes can spend"
    )
