"""Synthetic rows, and what they are worth: for learning, in their marginals, and in how close they come to patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from experiments.generative.closeness import Closeness, closeness
from experiments.generative.diffusion import Training
from experiments.generative.gather import Gathered
from experiments.generative.model import Learned, learn
from experiments.generative.vectors import Vectors
from experiments.metrics import METRICS
from experiments.scoring import Score, Tested, mean_score
from experiments.statistics.intervals import Interval, interval

Array = NDArray[Any]
_JUDGES = 3  # classifiers on the same rows, with different seeds
WANTED = 0.9  # of what is learned from patients should be learned from synthetic rows


@dataclass(frozen=True)
class Use:
    """Held-out AUROC of a classifier that learned from patients and of one that learned from synthetic rows."""

    real: Score
    synthetic: Score

    def ratio(self, chance: float = 0.0) -> Interval:
        """Return the second over the first, of what is above chance where that is given, with its 95% interval."""
        under, over = self.real, self.synthetic
        value = (over.value - chance) / (under.value - chance) if under.value != chance else float("nan")
        below = under.distribution - chance
        drawn = np.divide(over.distribution - chance, below, out=np.full(len(below), np.nan), where=below > 0)
        return interval(value, drawn)

    def line(self) -> str:
        """Return the figures in words."""
        learnt = self.real.interval.low > 0.5
        above = _shown(self.ratio(0.5), "{:.2f}") if learnt else "not defined, for patients teach nothing here"
        real, synthetic, ratio = (
            _shown(self.real.interval),
            _shown(self.synthetic.interval),
            _shown(self.ratio(), "{:.2f}"),
        )
        return (
            f"trained on synthetic rows, tested on held-out patients: AUROC {synthetic}, trained on patients {real}; "
            f"ratio {ratio}, of what is above chance {above}"
        )


@dataclass(frozen=True)
class Synthesis:
    """Synthetic rows and what was found about them; `prevalence` is a correlation over flags, None without such."""

    rows: Vectors
    real: Vectors
    use: Use
    prevalence: float | None
    closeness: Closeness

    def lines(self) -> list[str]:
        """Return all figures and a verdict in words."""
        flags = sum(column.flag for column in self.rows.columns)
        told = f"{self.prevalence:.3f}" if self.prevalence is not None else "not defined, they do not vary"
        good = "reached" if self.use.ratio().value >= WANTED else "not reached"
        private = (
            "no sign that training patients can be told from others by these two attacks; that is no proof, others may"
            if self.closeness.quiet
            else "training patients can be told from others: treat these rows as patients' data"
        )
        return [
            f"{len(self.rows.values):,} synthetic rows of {len(self.rows.columns)} columns",
            self.use.line(),
            f"  {WANTED:.0%} of what is learned from patients: {good}",
            f"correlation of the shares of {flags} flags with those of training patients: {told}",
            *self.closeness.lines(),
            f"privacy: {private}. The rows are not anonymous: no guarantee was built in",
        ]


def synthesise(gathered: Gathered, training: Training, *, rows: int | None = None, progress: bool = False) -> Synthesis:
    """Learn from the train split with its label and draw rows, as many as it has unless said.

    Raises:
        UsageError: as `learn`.
    """
    learned = learn(gathered, training, labelled=True, progress=progress)
    made = draw(learned, rows or len(learned.training), training.seed)
    cohort = gathered.cohort
    train, held_out = cohort.rows("train"), cohort.rows("held_out")
    real, others = learned.vectors.rows(train), learned.vectors.rows(held_out)
    ids = cohort.subject_ids
    near = closeness(
        learned.training,
        learned.scale.cells(others),
        learned.scale.cells(made),
        ids[train],
        ids[held_out],
        training.seed,
    )
    use = usefulness(real, others, made, ids[held_out], training.seed)
    return Synthesis(made, real, use, prevalence_agreement(real, made), near)


def draw(learned: Learned, rows: int, seed: int) -> Vectors:
    """Draw rows: first all but the label, for labels as frequent as in training, then the label given the rest."""
    rng = np.random.default_rng(seed)
    label = learned.label
    start = np.zeros((rows, len(label)))
    start[:, label] = learned.training[rng.integers(len(learned.training), size=rows)][:, label]
    cells = learned.diffusion.sample(start, np.broadcast_to(label, start.shape).copy(), seed)
    clean = learned.scale.cells(learned.scale.vectors(cells))  # flags yes or no, nothing where nothing is
    chance = (learned.diffusion.expect(clean, np.broadcast_to(~label, clean.shape).copy())[:, label] + 1) / 2
    clean[:, label] = np.where(rng.random(chance.shape) < chance, 1.0, -1.0)
    return learned.scale.vectors(clean)


def usefulness(real: Vectors, held_out: Vectors, synthetic: Vectors, ids: Array, seed: int) -> Use:
    """Train gradient boosting on patients and on synthetic rows, the label last, and test both on held-out patients.

    Shape:
        ids: of the held-out patients (M,).
    """
    tested = Tested.of(held_out.values[:, -1], ids)
    scores = []
    for rows in (real, synthetic):
        found = [_predict(rows.values, held_out.values, seed + each) for each in range(_JUDGES)]
        scores.append(mean_score([tested.score([METRICS["auroc"]], each)["auroc"] for each in found]))
    return Use(*scores)


def _predict(rows: Array, held_out: Array, seed: int) -> Array:
    """Return the chance of the label; constant where the rows have one label only. Shape: -> (M,)."""
    if len(np.unique(rows[:, -1])) < 2:
        return np.zeros(len(held_out))
    model = HistGradientBoostingClassifier(max_leaf_nodes=8, learning_rate=0.08, random_state=seed)
    return np.asarray(model.fit(rows[:, :-1], rows[:, -1]).predict_proba(held_out[:, :-1])[:, 1])


def prevalence_agreement(real: Vectors, synthetic: Vectors) -> float | None:
    """Return the correlation over flags of their shares in both; None where it is not defined."""
    flags = [place for place, column in enumerate(real.columns) if column.flag]
    shares = [rows.values[:, flags].mean(0) for rows in (real, synthetic)]
    if len(flags) < 2 or min(np.std(each) for each in shares) == 0:
        return None
    return float(np.corrcoef(*shares)[0, 1])


def _shown(found: Interval, form: str = "{:.3f}") -> str:
    return f"{form.format(found.value)} ({form.format(found.low)} to {form.format(found.high)})"


def correlations(vectors: Vectors) -> Array:
    """Return pairwise correlations of columns over the rows that have both; NaN where not defined. Shape: -> (D, D)."""
    there = np.isfinite(vectors.values).astype(np.float64)
    values = np.where(there > 0, vectors.values, 0.0)
    values = (values - np.divide(values.sum(0), there.sum(0), out=np.zeros(there.shape[1]), where=there.any(0))) * there
    count = there.T @ there
    sums, squares, products = values.T @ there, (values**2).T @ there, values.T @ values
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(np.maximum(squares - sums**2 / count, 0))
        found = (products - sums * sums.T / count) / (spread * spread.T)
    return np.where(np.isfinite(found) & (spread * spread.T > 1e-9), found, np.nan)
