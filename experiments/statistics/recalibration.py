"""Ways to recalibrate risks: a map from risk to risk, fitted on patients who taught the model nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import expit

from experiments.statistics.logistic import log_odds, logistic

Array = NDArray[Any]
Map = Callable[[Array], Array]
_WIDEST = float(np.log(20))


def temperature(target: Array, risk: Array) -> Map:
    """Divide the log odds by the number, from 1/20 to 20, that makes the outcomes likeliest.

    Shape:
        target and risk (N,).

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, 2017.
    """
    sharper = 1 / fitted_temperature(target, risk)
    return lambda new: np.asarray(expit(sharper * log_odds(new)))


def fitted_temperature(target: Array, risk: Array) -> float:
    """Return the temperature; above 1 the risks were too extreme. Shape: target and risk (N,)."""
    x = log_odds(risk)

    def surprise(log_temperature: float) -> float:
        value = x * np.exp(-log_temperature)
        return float((np.logaddexp(0, value) - target * value).sum())

    found = minimize_scalar(surprise, bounds=(-_WIDEST, _WIDEST), method="bounded")
    return float(np.exp(found.x))


def platt(target: Array, risk: Array) -> Map:
    """Move and stretch the log odds as a logistic regression says; only move them where its slope is not defined.

    Targets are drawn in a little, so that outcomes which the risks separate do not give infinite odds.

    Shape:
        target and risk (N,).

    Reference:
        Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """
    x, positives = log_odds(risk), float(target.sum())
    soft = np.where(target > 0, (positives + 1) / (positives + 2), 1 / (len(target) - positives + 2))
    ones = np.ones((len(x), 1))
    intercept, slope = logistic(np.concatenate([ones, x[:, None]], axis=1), soft)
    if not np.isfinite(slope):
        intercept, slope = float(logistic(ones, soft, x)[0]), 1.0
    return lambda new: np.asarray(expit(intercept + slope * log_odds(new)))


def isotonic(target: Array, risk: Array) -> Map:
    """Fit the monotone steps nearest to the outcomes, with straight lines between them.

    A step in which nobody (or everybody) had the event is no certainty: risks stay 1 / (N + 2) away from 0 and 1.

    Shape:
        target and risk (N,).

    Reference:
        Zadrozny, Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, 2002.
    """
    value, place, count = np.unique(risk.astype(np.float64), return_inverse=True, return_counts=True)
    steps = isotonic_regression(np.bincount(place, target) / count, weights=count).x
    least = 1 / (len(target) + 2)
    return lambda new: np.clip(np.interp(new.astype(np.float64), value, steps), least, 1 - least)


RECALIBRATIONS: Mapping[str, Callable[[Array, Array], Map]] = {
    "temperature": temperature,
    "Platt": platt,
    "isotonic": isotonic,
}
