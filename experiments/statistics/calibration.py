"""How well risks are calibrated: intercept, slope, errors by bins, and what the Brier score is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from experiments.statistics.logistic import LEAST_RISK, log_odds, logistic
from experiments.statistics.means import Quantities, ratio
from experiments.statistics.shares import Bounded

Array = NDArray[Any]
BINS = 10
_A_BIN = 20  # rows at least
_NAMES = (
    "intercept", "slope", "observed_expected", "ece", "ece_equal_mass", "brier", "reliability", "resolution",
    "uncertainty", "within_bins", "log_loss",
)  # fmt: skip


def bins_of(rows: int) -> int:
    """Return how many bins of equal mass so many rows fill: ten, or fewer with at least 20 rows each."""
    return int(np.clip(rows // _A_BIN, 2, BINS))


def equal_mass(prediction: Array, bins: int) -> Array:
    """Return the bin of each row, bins holding as many rows as ties allow. Shape: (N,) -> (N,) int64."""
    edges = np.quantile(prediction, np.arange(1, bins) / bins)
    return np.searchsorted(edges, prediction, side="right")


def calibration(bins: int) -> Quantities:
    """Return every number on the calibration of risks of yes or no.

    The intercept is that of a logistic regression whose slope on the log odds is held at 1 (calibration in the large),
    the slope that of one in which both are free; on resamples both take one step of Newton's method from the estimate
    on all rows. `ece` has ten bins of equal width. Reliability, resolution, uncertainty and what varies within bins
    are of bins of equal mass: brier = reliability - resolution + uncertainty + within_bins, exactly.

    Reference:
        Cox, Two Further Applications of a Model for Binary Regression, 1958; Van Calster et al., A Calibration
        Hierarchy for Risk Models Was Defined, 2016; Murphy, A New Vector Partition of the Probability Score, 1973;
        Stephenson, Coelho, Jolliffe, Two Extra Components in the Brier Score Decomposition, 2008; Moulton, Zeger,
        Bootstrapping Generalized Linear Models, 1991 (one step).
    """

    def rows(target: Array, prediction: Array) -> Array:
        risk = prediction.astype(np.float64)
        masses = _members(equal_mass(risk, bins), bins)
        widths = _members(np.clip((prediction * BINS).astype(int), 0, BINS - 1), BINS)
        kept = np.clip(risk, LEAST_RISK, 1 - LEAST_RISK)
        surprise = -(target * np.log(kept) + (1 - target) * np.log(1 - kept))
        scalars = np.stack([target, risk, risk**2, risk * target, surprise], axis=1)
        parts = [_recalibrating(target, log_odds(risk)), scalars, widths * (target - risk)[:, None], masses]
        return np.concatenate([*parts, masses * risk[:, None], masses * target[:, None]], axis=1)

    def finish(means: Array) -> Array:
        intercept, slope = _stepped(means[..., :10])
        observed, expected, square, product, surprise = np.moveaxis(means[..., 10:15], -1, 0)
        widths = means[..., 15 : 15 + BINS]
        mass, risk, hits = (means[..., 15 + BINS + i * bins : 15 + BINS + (i + 1) * bins] for i in range(3))
        filled = np.where(mass > 0, mass, 1.0)
        mean_risk, share = risk / filled, hits / filled
        reliability = (mass * (mean_risk - share) ** 2).sum(-1)
        resolution = (mass * (share - observed[..., None]) ** 2).sum(-1)
        variance = square - (mass * mean_risk**2).sum(-1)
        covariance = product - (mass * mean_risk * share).sum(-1)
        found = [intercept, slope, ratio(observed, expected), np.abs(widths).sum(-1), np.abs(hits - risk).sum(-1)]
        found += [square - 2 * product + observed, reliability, resolution, observed * (1 - observed)]
        return np.stack([*found, variance - 2 * covariance, surprise], axis=-1)

    return Quantities(_NAMES, rows, finish)


def calibration_curve(bins: int) -> Quantities:
    """Return the mean risk and the share of events in each bin of equal mass: `risk 0`, ..., `share 0`, ..."""

    def rows(target: Array, prediction: Array) -> Array:
        risk = prediction.astype(np.float64)
        masses = _members(equal_mass(risk, bins), bins)
        return np.concatenate([masses, masses * risk[:, None], masses * target[:, None]], axis=1)

    def finish(means: Array) -> Array:
        return ratio(means[..., bins:], np.concatenate([means[..., :bins]] * 2, axis=-1))

    names = tuple(f"{name} {i}" for name in ("risk", "share") for i in range(bins))
    return Quantities(names, rows, finish, {f"share {i}": Bounded(i) for i in range(bins)})


def _members(place: Array, bins: int) -> Array:
    return np.eye(bins)[place]


def _recalibrating(target: Array, x: Array) -> Array:
    """Return what one step of Newton's method needs, from the intercept alone and from intercept and slope.

    Shape:
        (N,) and (N,) -> (N, 10); the estimates are columns, all rows alike, so that their means are themselves.
    """
    ones = np.ones((len(x), 1))
    (alone,) = logistic(ones, target, x)
    first, slope = logistic(np.concatenate([ones, x[:, None]], axis=1), target)
    large, both = expit(x + alone), expit(first + slope * x)
    flat, steep = large * (1 - large), both * (1 - both)
    error = target - both
    columns = [target - large, flat, np.full_like(x, alone), error, error * x, steep, steep * x, steep * x**2]
    return np.stack([*columns, np.full_like(x, first), np.full_like(x, slope)], axis=1)


def _stepped(means: Array) -> tuple[Array, Array]:
    """Return intercept (slope held at 1) and slope after the step. Shape: (..., 10) -> (...) each."""
    lean, flat, alone, error, error_x, steep, steep_x, steep_xx, _, slope = np.moveaxis(means, -1, 0)
    curvature = steep * steep_xx - steep_x**2
    return alone + ratio(lean, flat), slope + ratio(steep * error_x - steep_x * error, curvature)
