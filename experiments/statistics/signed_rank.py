"""Better, worse or practically equal: the Bayesian signed-rank test."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_STREAM = 70_003
_PRIOR = 0.5  # observations that the prior is worth; it says "equal"


class Practical(NamedTuple):
    """Probabilities that the first of two is lower by more than matters, practically equal, and higher; sum 1."""

    lower: float
    equal: float
    higher: float


def signed_rank(differences: Array, equivalence: float, seed: int, samples: int = 20_000) -> Practical:
    """Return the probabilities that a difference is below, within and above a region of practical equivalence.

    The distribution of differences has a Dirichlet process prior with weight 1/2 on no difference. In each sample of
    it, the mean of two random differences is below, within or above the region with some probability; what counts is
    how often each of the three is the largest. Differences that are not finite are left out; without any, all are NaN.

    Args:
        differences: one a fold or data set. Shape: (J,).
        equivalence: differences up to this size do not matter.

    Reference:
        Benavoli, Corani, Demsar, Zaffalon, Time for a Change: a Tutorial for Comparing Multiple Classifiers Through
        Bayesian Analysis, 2017.
    """
    defined = differences[np.isfinite(differences)]
    if not len(defined):
        return Practical(float("nan"), float("nan"), float("nan"))
    values = np.concatenate([[0.0], defined])
    means = (values[:, None] + values[None, :]) / 2
    edge = equivalence + 1e-12  # a difference of exactly the region's size is within it
    weights = np.random.default_rng([_STREAM, seed]).dirichlet([_PRIOR, *[1.0] * len(defined)], samples)
    lower, higher = (np.einsum("sj,sj->s", weights @ side, weights) for side in (means < -edge, means > edge))
    largest = np.argmax([lower, 1 - lower - higher, higher], axis=0)
    return Practical(*(float(share) for share in np.bincount(largest, minlength=3) / samples))
