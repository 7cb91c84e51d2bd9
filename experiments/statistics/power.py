"""The smallest difference that a planned comparison could show, before anything is trained."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal


def smallest_difference(
    positives: int,
    negatives: int,
    *,
    auroc: float = 0.75,
    correlation: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
) -> float:
    """Return the gain in AUROC that a paired DeLong test finds with the wanted probability; NaN if none would do.

    Both predictions are taken to be binormal: normal scores of equal spread in both classes, correlated within them.

    Args:
        positives: patients with the outcome.
        negatives: patients without it.
        auroc: of the lower of the two predictions.
        correlation: of the two scores among patients of one class.
        power: the probability to find the difference.
        level: of the two-sided test.

    Raises:
        ValueError: no patient of a class; a probability or the correlation outside its range.

    Reference:
        DeLong et al., 1988 (the variance; here its expectation); Obuchowski, McClish, Sample Size Determination for
        Diagnostic Accuracy Studies Involving Binormal ROC Curve Indices, 1997 (planning with binormal scores).
    """
    if positives < 1 or negatives < 1:
        raise ValueError(f"power needs patients of both classes; got {positives} positives and {negatives} negatives")
    for name, value in (("power", power), ("level", level), ("correlation", correlation)):
        if not 0 < value < 1 and not (name == "correlation" and value == 0):
            raise ValueError(f"{name} must be between 0 and 1; got {value}")
    if not 0.5 <= auroc < 1:
        raise ValueError(f"auroc must be at least 0.5 and below 1; got {auroc}")
    quantile = float(ndtri(1 - level / 2) + ndtri(power))

    def excess(gain: float) -> float:
        return gain - quantile * difference_error(positives, negatives, auroc, auroc + gain, correlation)

    most = 1 - auroc - 1e-6
    return float(brentq(excess, 0, most)) if excess(most) > 0 else float("nan")


def difference_error(positives: int, negatives: int, first: float, second: float, correlation: float) -> float:
    """Return the expected standard error of the difference of two binormal AUROCs of the same patients."""
    one, two = _component(first, first, 1.0), _component(second, second, 1.0)
    variance = one + two - 2 * _component(first, second, correlation)
    return float(np.sqrt(max(0.0, variance) * (1 / positives + 1 / negatives)))


def _component(first: float, second: float, correlation: float) -> float:
    """Return the covariance, over patients of a class, of the chances to rank right under two predictions.

    A positive with score x ranks above a negative with probability Phi(x). The product of two such chances is the
    probability that two normal differences, correlated half as much as the scores are, are both positive.
    """
    edges = [float(ndtri(first)), float(ndtri(second))]
    half = correlation / 2
    both = multivariate_normal.cdf(edges, mean=[0, 0], cov=[[1, half], [half, 1]])
    return float(both - ndtr(edges[0]) * ndtr(edges[1]))
