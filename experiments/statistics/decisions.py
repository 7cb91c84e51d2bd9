"""What acting on a risk is worth: net benefit by threshold, and alerts at a threshold chosen on other patients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.statistics.means import Quantities, ratio
from experiments.statistics.shares import Bounded

Array = NDArray[Any]


def net_benefit(thresholds: Array) -> Quantities:
    """Return what treating at each threshold is worth, in events found a patient.

    `model 0` treats whose risk is at least the first threshold, `all 0` everybody, and `gain 0` is what the model is
    worth beyond the better of treating everybody and nobody. A threshold is the risk at which treating and not
    treating are worth the same, so its odds are how many events a needless treatment costs.

    Shape:
        thresholds (T,), above 0 and below 1.

    Reference:
        Vickers, Elkin, Decision Curve Analysis: a Novel Method for Evaluating Prediction Models, 2006.
    """
    odds = thresholds / (1 - thresholds)

    def rows(target: Array, prediction: Array) -> Array:
        worth = target[:, None] - (1 - target[:, None]) * odds
        treated = prediction.astype(np.float64)[:, None] >= thresholds
        return np.concatenate([treated * worth, worth], axis=1)

    def finish(means: Array) -> Array:
        model, everybody = np.split(means, 2, axis=-1)
        return np.concatenate([model, everybody, model - np.maximum(everybody, 0)], axis=-1)

    bounded = {f"all {i}": Bounded(low=-each) for i, each in enumerate(odds)}
    bounded |= {f"{w} {i}": Bounded(None, -each, 1.0, False) for w in ("model", "gain") for i, each in enumerate(odds)}
    names = tuple(f"{w} {i}" for w in ("model", "all", "gain") for i in range(len(odds)))
    return Quantities(names, rows, finish, bounded)


def at_sensitivity(target: Array, prediction: Array, share: float) -> float:
    """Return the highest threshold that at least this share of events reaches. Shape: target and prediction (N,)."""
    events = np.sort(prediction[target > 0].astype(np.float64))[::-1]
    return float(events[math.ceil(share * len(events) - 1e-9) - 1])


def at_specificity(target: Array, prediction: Array, share: float) -> float:
    """Return the lowest threshold that at least this share of others stays below. Shape: target and prediction (N,)."""
    others = np.sort(prediction[target <= 0].astype(np.float64))
    return float(np.nextafter(others[math.ceil(share * len(others) - 1e-9) - 1], np.inf))


def _alert_rows(target: Array, alert: Array) -> Array:
    raised, event = alert.astype(np.float64), target > 0
    quiet, other = 1 - raised, 1.0 - event
    return np.stack([raised * event, raised, event, np.ones(len(event)), other, quiet], axis=1)


def _alert_shares(means: Array) -> Array:
    hits, raised, events, everybody = np.moveaxis(means[..., :4], -1, 0)
    rest = everybody - events
    missed = events - hits
    found = [ratio(hits, events), ratio(rest - raised + hits, rest), ratio(hits, raised)]
    return np.stack([*found, ratio(rest - raised + hits, rest - raised + hits + missed), 100 * raised], axis=-1)


ALERTS = Quantities(
    ("sensitivity", "specificity", "ppv", "npv", "alerts_per_100"),
    _alert_rows,
    _alert_shares,
    {
        "sensitivity": Bounded(2),
        "specificity": Bounded(4),
        "ppv": Bounded(1),
        "npv": Bounded(5),
        "alerts_per_100": Bounded(high=100.0),
    },
)
"""Of whether an alert is raised for each row. Shape: prediction (N,) bool."""
