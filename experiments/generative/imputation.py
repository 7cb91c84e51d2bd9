"""Missing numbers of vectors filled in, and how near each way of filling comes to numbers hidden on purpose."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - sklearn wants to be asked
from sklearn.impute import IterativeImputer

from experiments.data.cohort import Cohort
from experiments.generative.diffusion import Training
from experiments.generative.gather import Gathered
from experiments.generative.model import Learned, learn
from experiments.generative.vectors import Vectors
from experiments.scoring import Score
from experiments.statistics.bootstrap import Resamples, mean_distribution

Array = NDArray[Any]
HIDDEN = 0.2  # share of the known numbers that are hidden on purpose
_BOUND = 4.0  # normal scores: an error of the record is no reason to call a filling bad
Fill = Callable[[Vectors], Array]
WAYS = {"mean": "mean of the column", "iterative": "iterative regression", "diffusion": "diffusion model"}


@dataclass(frozen=True)
class Imputation:
    """Filled vectors by each way, how many cells were filled, and the errors on hidden numbers of held-out patients.

    Errors are root mean squares in units of the column's spread (of normal scores), so that no column counts more.
    `best` is the way that erred least on hidden numbers of tuning patients, the mean where none could be hidden.
    """

    filled: Mapping[str, Vectors]
    cells: int
    hidden: int
    errors: Mapping[str, Score]
    best: str

    def lines(self, by: str) -> list[str]:
        """Return the figures and what they mean in words."""
        lines = [f"{self.cells:,} missing numbers filled in by the {WAYS[by]}"]
        if not self.errors:
            return [*lines, "no held-out patient has a number that could be hidden, so nobody knows how well"]
        told = [f"{WAYS[way]} {_shown(score)}" for way, score in self.errors.items()]
        lines.append(
            f"{self.hidden:,} known numbers of held-out patients hidden; error in spreads of their column, 95%:"
        )
        lines.append(f"  {', '.join(told)}")
        rivals = [way for way in self.errors if way != "diffusion"]
        rival = min(rivals, key=lambda way: self.errors[way].value)
        apart = self.errors["diffusion"].minus(self.errors[rival]).interval
        verdict = "better" if apart.high < 0 else "worse" if apart.low > 0 else "not told apart"
        lines.append(
            f"diffusion model against {WAYS[rival]}: {apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), "
            f"{verdict}"
        )
        return lines


def impute(gathered: Gathered, training: Training, *, progress: bool = False) -> Imputation:
    """Learn from the train split, fill in the numbers of measurements of all rows, and test each way on hidden ones.

    Notes, images and codes are not filled in; what is there of them is used.

    Raises:
        UsageError: as `learn`.
    """
    learned = learn(gathered, training, progress=progress)
    ways = fit_ways(learned, learned.vectors.rows(gathered.cohort.rows("train")))
    filled = {way: _filled(learned, fill(learned.vectors)) for way, fill in ways.items()}
    seed, cohort = training.seed, gathered.cohort
    chosen, _ = _tested(learned, ways, cohort, "tuning", seed)
    best = min(chosen, key=lambda way: chosen[way].value) if chosen else "mean"
    errors, hidden = _tested(learned, ways, cohort, "held_out", seed)
    return Imputation(filled, int(missing_numbers(learned.vectors).sum()), hidden, errors, best)


def _tested(
    learned: Learned, ways: Mapping[str, Fill], cohort: Cohort, split: str, seed: int
) -> tuple[dict[str, Score], int]:
    """Return the errors on hidden numbers of a split, none where nothing could be hidden, and how many these are."""
    rows = cohort.rows(split)
    known = learned.vectors.rows(rows)
    hidden = hide(known, seed)
    if not hidden.any():
        return {}, 0
    return measure(learned, known, hidden, ways, cohort.subject_ids[rows]), int(hidden.sum())


def numbers_of(vectors: Vectors) -> NDArray[np.bool_]:
    """Return which columns are numbers of measurements. Shape: (D,) bool."""
    return np.array([column.part == "codes" and not column.flag for column in vectors.columns])


def missing_numbers(vectors: Vectors) -> NDArray[np.bool_]:
    """Return which cells are numbers of measurements and not there. Shape: (N, D) bool."""
    return ~np.isfinite(vectors.values) & numbers_of(vectors)


def hide(vectors: Vectors, seed: int) -> NDArray[np.bool_]:
    """Choose known numbers at random. Shape: (N, D) bool."""
    drawn = np.random.default_rng([seed, 7]).random(vectors.values.shape) < HIDDEN
    return np.asarray(drawn & np.isfinite(vectors.values) & numbers_of(vectors))


def fit_ways(learned: Learned, training: Vectors) -> dict[str, Fill]:
    """Return what expects normal scores of each column, by name: the mean, regressions in rounds, the diffusion model.

    Reference:
        Van Buuren, Groothuis-Oudshoorn, mice: Multivariate Imputation by Chained Equations in R, 2011 (here
        scikit-learn's IterativeImputer with Bayesian ridge, one imputation).
    """
    known = _scores(learned, training)
    there = np.isfinite(known)
    middle = np.divide(np.where(there, known, 0).sum(0), there.sum(0), out=np.zeros(known.shape[1]), where=there.any(0))
    imputer = IterativeImputer(max_iter=5, random_state=0, keep_empty_features=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        imputer.fit(known)
    return {
        "mean": lambda vectors: np.broadcast_to(middle, vectors.values.shape),
        "iterative": lambda vectors: imputer.transform(_scores(learned, vectors)),
        "diffusion": lambda vectors: _expected(learned, vectors),
    }


def measure(learned: Learned, known: Vectors, hidden: Array, ways: Mapping[str, Fill], ids: Array) -> dict[str, Score]:
    """Return the error of each way on hidden numbers. Shape: known.values and hidden (M, D); ids (M,)."""
    truth = _scores(learned, known)
    left = Vectors(known.columns, np.where(hidden, np.nan, known.values))
    resamples = Resamples.draw(ids, 1000, 0)
    counts = hidden.sum(1).astype(np.float64)
    found = {}
    for way, fill in ways.items():
        squares = (np.where(hidden, fill(left).clip(-_BOUND, _BOUND) - truth, 0.0) ** 2).sum(1)
        means = mean_distribution(np.stack([squares, counts], axis=1), resamples)
        drawn = np.sqrt(np.divide(means[:, 0], means[:, 1], out=np.full(len(means), np.nan), where=means[:, 1] > 0))
        found[way] = Score(np.sqrt([squares.sum() / counts.sum()]), drawn, None)
    return found


def _filled(learned: Learned, expected: Array) -> Vectors:
    wanted, values = missing_numbers(learned.vectors), learned.vectors.values.copy()
    for place in np.flatnonzero(wanted.any(0)):
        curve = learned.scale.curves[place]
        assert curve is not None
        rows = wanted[:, place]
        values[rows, place] = curve.backward(expected[rows, place])
    return Vectors(learned.vectors.columns, values)


def _expected(learned: Learned, vectors: Vectors) -> Array:
    """Ask for each missing number as if it had been measured, with all else as it is. Shape: -> (N, D)."""
    cells, wanted, scale = learned.scale.cells(vectors), missing_numbers(vectors), learned.scale
    found = cells[:, : len(scale.columns)].copy()
    for place in np.flatnonzero(wanted.any(0)):
        rows, group = wanted[:, place], scale.columns[place].group
        asked, given = cells[rows], np.ones((int(rows.sum()), cells.shape[1]), bool)
        given[:, place] = False
        if group in scale.lacking:
            asked[:, len(scale.columns) + scale.lacking.index(group)] = 1.0
        found[rows, place] = learned.diffusion.expect(asked, given)[:, place]
    return found


def _scores(learned: Learned, vectors: Vectors) -> Array:
    """Return the cells of columns, NaN where missing. Shape: -> (N, D)."""
    cells = learned.scale.cells(vectors)[:, : len(vectors.columns)].clip(-_BOUND, _BOUND)
    return np.where(np.isfinite(vectors.values), cells, np.nan)


def _shown(score: Score) -> str:
    found = score.interval
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
