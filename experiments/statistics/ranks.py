"""Many strategies over many blocks (folds, data sets): mean ranks, and which of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

Array = NDArray[Any]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of strategies, 1 the best, and how far apart two must be to differ.

    `p` is Friedman's: that all strategies rank alike. `pairs` are Nemenyi's, of every two. They hold over blocks that
    are independent; folds share training patients, so over folds they are somewhat too small.

    Shape:
        means (S,), pairs (S, S).
    """

    names: tuple[str, ...]
    means: NDArray[np.float64]
    p: float
    pairs: NDArray[np.float64]
    critical_difference: float
    blocks: int

    def cliques(self) -> list[tuple[str, ...]]:
        """Return the largest groups, best first, whose members are not shown to differ; groups of one are left out."""
        order = np.argsort(self.means, kind="stable")
        found: list[tuple[int, int]] = []
        for first in range(len(order)):
            within = self.means[order] - self.means[order[first]] <= self.critical_difference
            last = int(np.flatnonzero(within)[-1])
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return [tuple(self.names[i] for i in order[first : last + 1]) for first, last in found]


def mean_ranks(names: Sequence[str], scores: Array, *, higher_is_better: bool) -> Ranks:
    """Rank strategies in every block and test whether, and which, they differ at 5%. Ties share a rank.

    Shape:
        scores (blocks, S).

    Raises:
        ValueError: fewer than three strategies or two blocks, or a score that is not finite.

    Reference:
        Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, 2006 (Friedman's test with Nemenyi's
        critical difference).
    """
    blocks, count = scores.shape
    if count < 3 or blocks < 2:
        raise ValueError(f"ranks need at least 3 strategies and 2 blocks; got {count} and {blocks}")
    if not np.isfinite(scores).all():
        raise ValueError("ranks need finite scores")
    ranks = rankdata(-scores if higher_is_better else scores, axis=1)
    means = ranks.mean(0)
    tied = (ranks == ranks[:, :1]).all()  # nothing to rank: the statistic would be 0 / 0
    p = 1.0 if tied else float(friedmanchisquare(*ranks.T).pvalue)
    unit = np.sqrt(count * (count + 1) / (6 * blocks)) / np.sqrt(2)
    apart, inverse = np.unique(np.abs(means[:, None] - means[None, :]).round(12), return_inverse=True)
    pairs = studentized_range.sf(apart / unit, count, np.inf)[inverse].reshape(count, count)
    critical = float(studentized_range.ppf(0.95, count, np.inf) * unit)
    return Ranks(tuple(names), means, p, np.clip(pairs, 0, 1), critical, blocks)
