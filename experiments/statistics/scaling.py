"""A scaling law: how a loss falls with parameters and data, fitted by variable projection, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, nnls
from scipy.special import huber

Array = NDArray[Any]
LEAST_CELLS, LEAST_LEVELS = 6, 3  # five numbers are fitted, three of them along each axis
_STARTS = np.geomspace(0.05, 2.0, 8)
_LOWEST, _HIGHEST = 0.01, 4.0  # exponents looked at
_HUBER = 1e-3  # relative residual from which a cell counts by its distance and no longer by the square of it
_ROUNDS = 40
_STREAM = 70_301  # keeps draws apart from others made with the same seed


@dataclass(frozen=True)
class Surface:
    """L(N, D) = irreducible + A / N^alpha + B / D^beta; `error` is the mean of the absolute relative residuals."""

    irreducible: float
    of_size: float
    of_data: float
    alpha: float
    beta: float
    error: float = 0.0

    def loss(self, sizes: Array, data: Array) -> Array:
        """Return the loss of sizes N and amounts of data D. Shape: (n,) and (n,) -> (n,)."""
        return self.irreducible + self.of_size * sizes**-self.alpha + self.of_data * data**-self.beta

    def worth(self, data: float) -> float:
        """Return the size at which doubling it gains as much as doubling the data; NaN if one of them gains nothing.

        It is the size N that is best for the operations that N and these data take, as these go with N times D.
        """
        falls = self.beta * self.of_data * data**-self.beta
        if falls <= 0 or self.of_size <= 0:
            return float("nan")
        return float(np.exp(np.clip(np.log(self.alpha * self.of_size / falls) / self.alpha, -300, 300)))

    def exponents(self) -> tuple[float, float]:
        """Return a and b of the best size ~ C^a and the best amount of data ~ C^b for C operations."""
        return self.beta / (self.alpha + self.beta), self.alpha / (self.alpha + self.beta)

    def at_edge(self) -> str:
        """Say which exponent ran to the end of what is looked at: cells that follow no law send it there."""
        ends = {"size": (self.of_size, self.alpha), "data": (self.of_data, self.beta)}
        found = [
            name for name, (scale, each) in ends.items() if scale > 0 and not 1.01 * _LOWEST < each < 0.99 * _HIGHEST
        ]
        return " and ".join(found)

    def gains(self, size: float, data: float) -> tuple[float, float]:
        """Return by how much the loss falls if the size is doubled, and if the data are."""
        of_size = self.of_size * size**-self.alpha * (1 - 2**-self.alpha)
        return of_size, self.of_data * data**-self.beta * (1 - 2**-self.beta)


def fit_surface(sizes: Array, data: Array, loss: Array) -> Surface:
    """Fit a surface to cells by a Huber loss of relative residuals, so that a few cells astray do not bend it.

    For given exponents and weights the other three numbers are a non-negative linear least-squares problem, so that
    only two are looked for, from the best corners of a grid. Weights are those under which least squares is the Huber
    loss, found in rounds.

    Shape:
        sizes, data and loss (n,).

    Raises:
        ValueError: too few cells, sizes or amounts of data, or what is no positive finite number.

    Reference:
        Golub, Pereyra, The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose Variables
        Separate, 1973; Hoffmann et al., Training Compute-Optimal Large Language Models, 2022 (the surface, the loss and
        its threshold; they fit all five at once); Holland, Welsch, Robust Regression Using Iteratively Reweighted
        Least-Squares, 1977.
    """
    _check(sizes, data, loss)
    cells = sizes, data, loss
    starts = sorted(product(_STARTS, repeat=2), key=lambda each: _solve(*cells, *each).error)[:3]
    found = [_settled(*cells, each) for each in starts]
    best = min(found, key=lambda each: float(huber(_HUBER, _rest(*cells, each)).sum()))
    return replace(best, error=float(np.abs(_rest(*cells, best)).mean()))


def _settled(sizes: Array, data: Array, loss: Array, start: tuple[float, float]) -> Surface:
    """Fit from a start, with the weights of the round before, until they stay as they are."""
    weights = np.ones_like(loss)
    for _ in range(_ROUNDS):
        found = _weighted(sizes, data, loss, weights, start, xatol=1e-6, fatol=1e-12, maxiter=400)
        before, weights, start = weights, _weights(sizes, data, loss, found), (found.alpha, found.beta)
        if np.allclose(before, weights, rtol=0.01):
            break
    return found


def _weighted(
    sizes: Array, data: Array, loss: Array, weights: Array, start: tuple[float, float], **options: float
) -> Surface:
    """Fit by weighted least squares from a start."""

    def solve(logarithms: Array) -> Surface:
        alpha, beta = np.exp(np.clip(logarithms, np.log(_LOWEST), np.log(_HIGHEST))).tolist()
        return _solve(sizes, data, loss, alpha, beta, weights)

    end = minimize(lambda each: solve(each).error, np.log(start), method="Nelder-Mead", options=options)
    return solve(end.x)


def _weights(sizes: Array, data: Array, loss: Array, found: Surface) -> Array:
    """Return the weights of residuals under which least squares is the Huber loss. Shape: (n,)."""
    apart = np.abs(_rest(sizes, data, loss, found))
    return np.asarray(np.minimum(1.0, _HUBER / np.maximum(apart, 1e-300)) ** 0.5)


def _rest(sizes: Array, data: Array, loss: Array, found: Surface) -> Array:
    """Return relative residuals. Shape: (n,)."""
    return found.loss(sizes, data) / loss - 1


def _solve(sizes: Array, data: Array, loss: Array, alpha: float, beta: float, weights: Array | float = 1.0) -> Surface:
    """Return the best surface of given exponents; its `error` is the length of the weighted residuals."""
    middle = np.exp(np.log(sizes).mean()), np.exp(np.log(data).mean())  # columns of like length
    columns = np.stack([np.ones_like(loss), (sizes / middle[0]) ** -alpha, (data / middle[1]) ** -beta], axis=1)
    scale = weights / loss
    (floor, of_size, of_data), distance = nnls(columns * scale[:, None], loss * scale)
    a, b = of_size * middle[0] ** alpha, of_data * middle[1] ** beta
    return Surface(float(floor), float(a), float(b), alpha, beta, float(distance))


def surface_draws(sizes: Array, data: Array, loss: Array, fitted: Surface, draws: int, seed: int) -> list[Surface]:
    """Fit again where the relative residual of each cell keeps its size and draws its sign; nothing if none is left.

    Residuals are widened by the five numbers that were fitted. A cell is never left out, which small grids cannot bear.

    Reference:
        Wu, Jackknife, Bootstrap and Other Resampling Methods in Regression Analysis, 1986.
    """
    if len(loss) < LEAST_CELLS:
        return []
    expected = fitted.loss(sizes, data)
    rest = np.log(loss / expected) * (len(loss) / (len(loss) - 5)) ** 0.5
    rng = np.random.default_rng([_STREAM, seed])
    signs = rng.choice([-1.0, 1.0], (draws, len(loss)))
    weights = _weights(sizes, data, loss, fitted)  # residuals keep their size, and so cells their weight
    starts = [(fitted.alpha, fitted.beta), (0.5, 0.5)]  # a second one, lest all draws stay in the valley of the first
    coarse = {"xatol": 1e-3, "fatol": 1e-6, "maxiter": 100}  # far finer than draws differ
    found = []
    for sign in signs:
        drawn = expected * np.exp(rest * sign)
        ends = [_weighted(sizes, data, drawn, weights, each, **coarse) for each in starts]
        found.append(min(ends, key=lambda each: each.error))
    return found


def interval(values: Array) -> tuple[float, float] | None:
    """Return the middle 95% of draws; None where more than one in twenty is not defined."""
    values = np.asarray(values, np.float64)
    defined = values[np.isfinite(values)]
    if not len(values) or len(defined) < 0.95 * len(values):
        return None
    low, high = np.quantile(defined, [0.025, 0.975]).tolist()
    return low, high


def interval_of(draws: Sequence[Surface], figure: Callable[[Surface], float]) -> tuple[float, float] | None:
    """Return the 95% interval of a figure of refitted surfaces."""
    return interval(np.array([figure(each) for each in draws]))


def _check(sizes: Array, data: Array, loss: Array) -> None:
    for name, values in (("size", sizes), ("amount of data", data), ("loss", loss)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError(f"every {name} must be finite and above 0")
    levels = len(np.unique(sizes)), len(np.unique(data))
    if len(loss) < LEAST_CELLS or min(levels) < LEAST_LEVELS:
        raise ValueError(
            f"a surface needs {LEAST_CELLS} cells with {LEAST_LEVELS} sizes and {LEAST_LEVELS} amounts of data; got "
            f"{len(loss)} with {levels[0]} and {levels[1]}"
        )
