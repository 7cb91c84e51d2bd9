"""Records that do not fit: scores of all, and how well planted errors are found in copies of others than trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.generative.diffusion import Training
from experiments.generative.facts import facts_of
from experiments.generative.gather import Gathered
from experiments.generative.model import Learned, learn
from experiments.generative.planting import KINDS, plant
from experiments.generative.scorers import Odd, Scorer, diffusion_scorer, forest_scorer, furthest_scorer
from experiments.generative.vectors import STATISTICS
from experiments.metrics import METRICS
from experiments.scoring import Score, Tested
from fusion.component import UsageError, unknown

Array = NDArray[Any]
SCORERS = {
    "diffusion": "diffusion model",
    "forest": "isolation forest",
    "furthest": "furthest single number",
}
_LEAST = 5  # records with a planted error from which anything can be said


@dataclass(frozen=True)
class Trial:
    """How well each scorer tells records with a planted error from the same records without; none where too few can
    have it."""

    kind: str
    records: int
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Anomalies:
    """Scores of all rows by each scorer, what was tried, and the number of training rows and columns."""

    odd: Mapping[str, Odd]
    trials: tuple[Trial, ...]
    training: int
    columns: int

    def flagged(self, by: str) -> NDArray[np.bool_]:
        """Return which rows are so odd that less than one in all would be by chance. Shape: (N,)."""
        score = self.odd[by].score
        return np.asarray(score > np.log(len(score)))

    def responsible(self, by: str) -> list[tuple[str, int]]:
        """Return what most often makes flagged rows odd, and in how many."""
        odd = self.odd[by]
        counts = Counter(odd.names[each] for each in odd.what[self.flagged(by)])
        return sorted(counts.items(), key=lambda each: (-each[1], each[0]))


def find_anomalies(gathered: Gathered, training: Training, *, progress: bool = False) -> Anomalies:
    """Learn from the train split, score every row, and try on the kept records of `gathered` what is found.

    Raises:
        UsageError: as `learn`, or nothing has numbers and no modality another to agree with.
    """
    learned = learn(gathered, training, statistics=STATISTICS, progress=progress)
    scorers = fit_scorers(learned, training.seed)
    cells = learned.scale.cells(learned.vectors)
    odd = {name: scorer(cells) for name, scorer in scorers.items()}
    trials = [try_scorers(gathered, learned, scorers, kind, training.seed) for kind in KINDS]
    return Anomalies(odd, tuple(trials), len(learned.training), len(learned.vectors.columns))


def fit_scorers(learned: Learned, seed: int) -> dict[str, Scorer]:
    """Fit all scorers on the same training cells.

    Raises:
        UsageError: there is nothing to look at.
    """
    if not any(not column.flag for column in learned.scale.columns):
        raise UsageError("no record has a number, a note or an image, so nothing can be out of line")
    scorers = {
        "diffusion": diffusion_scorer(learned.diffusion, learned.scale, learned.training),
        "forest": forest_scorer(learned.training, seed),
        "furthest": furthest_scorer(learned.scale, learned.training),
    }
    return {name: scorer for name, scorer in scorers.items() if scorer.names}


def try_scorers(gathered: Gathered, learned: Learned, scorers: Mapping[str, Scorer], kind: str, seed: int) -> Trial:
    """Plant errors of one kind in copies of the kept records and score copies and originals.

    Raises:
        UsageError: the kind is not known.
    """
    if kind not in KINDS:
        raise unknown("planted error", kind, KINDS)
    rows = list(gathered.records)
    rng = np.random.default_rng([seed, list(KINDS).index(kind)])
    planted = plant([gathered.records[row] for row in rows], kind, rng)
    pairs = [(row, wrong) for row, wrong in zip(rows, planted, strict=True) if wrong is not None]
    if len(pairs) < _LEAST:
        return Trial(kind, len(pairs), {})
    before = learned.cells([gathered.facts[row] for row, _ in pairs])
    after = learned.cells([facts_of(wrong, gathered.ancestors) for _, wrong in pairs])
    ids = gathered.cohort.subject_ids[[row for row, _ in pairs]]
    target = np.repeat([0.0, 1.0], len(pairs))
    tested = Tested.of(target, np.concatenate([ids, ids]))
    scores = {
        name: tested.score([METRICS["auroc"]], np.concatenate([scorer(before).score, scorer(after).score]))["auroc"]
        for name, scorer in scorers.items()
    }
    return Trial(kind, len(pairs), scores)


def in_words(found: Anomalies, by: str) -> list[str]:
    """Return what was found: how far each scorer can be trusted here, how many rows stand out, and because of what."""
    rows = len(next(iter(found.odd.values())).score)
    lines = [f"{rows:,} records of {found.columns} columns; learned from {found.training:,} of the train split"]
    lines.append("errors planted in copies of tuning records, AUROC (95% interval over patients):")
    for trial in found.trials:
        what = f"  {KINDS[trial.kind]} ({trial.records} records)"
        if not trial.scores:
            lines.append(f"{what}: too few records can have it")
            continue
        told = [f"{SCORERS[name]} {_shown(score)}" for name, score in trial.scores.items()]
        lines.append(f"{what}: {', '.join(told)}")
    flagged = found.flagged(by)
    lines.append(
        f"by the {SCORERS[by]}, {int(flagged.sum()):,} of {rows:,} records stand out; if all were like most that were"
        " learned from, less than one would"
    )
    blamed = found.responsible(by)
    if blamed:
        lines.append("most responsible: " + ", ".join(f"{name} ({count:,})" for name, count in blamed[:8]))
    return lines


def _shown(score: Score) -> str:
    found = score.interval
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
