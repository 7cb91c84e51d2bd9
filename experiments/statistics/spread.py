"""What makes a score uncertain: which patients were tested, which seed trained, and both together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Spread(NamedTuple):
    """Standard deviations of one seed's score by source, and the standard error of the mean over seeds.

    `patients` is common to all seeds; `seeds` would remain with any number of test patients; `both` is how differently
    the same patients fall out for other seeds. With one seed, the last two are not known and the error is of patients.
    """

    patients: float
    seeds: float
    both: float
    error: float


def spread(values: Array, distributions: Array) -> Spread:
    """Separate the sampling error of patients from the spread over seeds.

    The values of seeds differ by more than seeds do: part of it is the noise of few test patients, which resampling
    shows as what is left when each seed's and each resample's mean are taken out. Estimates below zero are zero.

    Shape:
        values (S,), the score of each seed; distributions (S, R), the same on resampled patients.

    Reference:
        Searle, Casella, McCulloch, Variance Components, 1992 (two crossed random factors).
    """
    kept = distributions[:, np.isfinite(distributions).all(0)]
    seeds, resamples = kept.shape
    if resamples < 2 or not np.isfinite(values).all():
        return Spread(*[float("nan")] * 4)
    common = float(np.var(kept.mean(0), ddof=1))
    if seeds < 2:
        return Spread(common**0.5, float("nan"), float("nan"), common**0.5)
    rest = kept - kept.mean(0) - kept.mean(1, keepdims=True) + kept.mean()
    both = float((rest**2).sum()) / ((seeds - 1) * (resamples - 1))
    patients, alone = max(0.0, common - both / seeds), max(0.0, float(np.var(values, ddof=1)) - both)
    error = patients + (alone + both) / seeds
    return Spread(patients**0.5, alone**0.5, both**0.5, error**0.5)
