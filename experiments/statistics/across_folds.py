"""Whether a difference holds in other folds: tests that know that training sets overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test
from scipy.stats import t as student

from experiments.statistics.intervals import Interval

Array = NDArray[Any]
_FLIPS = 9999  # at most; all of them where there are fewer


def corrected_t(differences: Array, test_share: float) -> tuple[Interval, float]:
    """Return the mean difference over folds with its 95% interval, and the p value of its being zero.

    Folds share training patients, so their differences vary less than those of independent experiments would: the
    variance of the mean is taken to be (1/J + test/train) of theirs instead of 1/J. Seeds of one fold share their test
    patients too and must have been averaged. Where nothing varies, p is 1 for no difference and NaN for any other.

    Args:
        differences: one a fold. Shape: (J,).
        test_share: test patients of a fold for each training patient, 1 / (J - 1) in cross-validation.

    Reference:
        Nadeau, Bengio, Inference for the Generalization Error, 2003; Bouckaert, Frank, Evaluating the Replicability of
        Significance Tests for Comparing Learning Algorithms, 2004.
    """
    folds, mean = len(differences), float(np.mean(differences)) if len(differences) else float("nan")
    if folds < 2 or not np.isfinite(differences).all():
        return Interval(mean, float("nan"), float("nan")), float("nan")
    error = float(np.sqrt((1 / folds + test_share) * np.var(differences, ddof=1)))
    if error < 1e-12:
        return Interval(mean, mean, mean), 1.0 if abs(mean) < 1e-12 else float("nan")
    half = error * float(student.ppf(0.975, folds - 1))
    return Interval(mean, mean - half, mean + half), float(2 * student.sf(abs(mean) / error, folds - 1))


def sign_flips(differences: Array, seed: int) -> float:
    """Return the two-sided p value of the mean difference when the sign of each fold's could as well be the other.

    All 2^J sign patterns are tried where there are few, so 5 folds cannot give less than 2/32.

    Shape:
        differences (J,), seeds averaged.

    Reference:
        Fisher, The Design of Experiments, 1935.
    """
    if not len(differences) or not np.isfinite(differences).all():
        return float("nan")
    if len(differences) == 1:
        return 1.0
    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=_FLIPS, rng=np.random.default_rng(seed)
    )
    return float(found.pvalue)
