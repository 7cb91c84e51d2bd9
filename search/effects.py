"""What a component is worth in a study: its effect on the score with the other places held alike, and an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from search.duplicates import is_duplicate
from search.objectives import score_of
from search.settings import NONE

_RIDGE = 0.5  # trials' worth of belief that a component makes no difference
_LEAST = 8  # finished trials below which nothing is said


@dataclass(frozen=True)
class Effect:
    """By how much a component moves the score away from the mean of its place, with a 95% interval over trials."""

    place: str
    component: str
    trials: int
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def component_effects(trials: Sequence[FrozenTrial], seed: int = 0, resamples: int = 500) -> list[Effect]:
    """Fit the score of finished trials by a sum of one effect a place, and bootstrap the trials.

    Effects of a place are around 0, and shrunk as if half a trial more had shown none, so that a component seen once
    does not look certain. Interactions are not in it; numbers such as learning rates are not either. Empty for fewer
    than 8 finished trials.
    """
    rows = [
        (score, _components(trial))
        for trial in trials
        if trial.state == TrialState.COMPLETE and (score := score_of(trial)) is not None and _components(trial)
        if not is_duplicate(trial)  # a copied score would count twice, and look certain
    ]
    if len(rows) < _LEAST:
        return []
    places = sorted({place for _, chosen in rows for place in chosen})
    levels = [(place, name) for place in places for name in sorted({chosen.get(place, NONE) for _, chosen in rows})]
    levels = [each for each in levels if sum(place == each[0] for place, _ in levels) > 1]
    if not levels:
        return []
    design = np.array([[chosen.get(place, NONE) == name for place, name in levels] for _, chosen in rows], np.float64)
    scores = np.array([score for score, _ in rows])
    groups = [np.flatnonzero([place == each[0] for each in levels]) for place in {place for place, _ in levels}]
    rng = np.random.default_rng(seed)
    resampled = rng.integers(len(rows), size=(resamples, len(rows)))
    drawn = np.array([_fit(design[picked], scores[picked], groups) for picked in resampled])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    found = [
        Effect(place, name, int(design[:, i].sum()), value, low[i], high[i])
        for i, ((place, name), value) in enumerate(zip(levels, _fit(design, scores, groups).tolist(), strict=True))
    ]
    return sorted(found, key=lambda each: (each.place, -each.value))


def _fit(
    design: NDArray[np.float64], scores: NDArray[np.float64], groups: Sequence[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Ridge regression that does not shrink the mean; each place is centred. Shape: (N, L), (N,) -> (L,)."""
    centred = design - design.mean(0)
    found = np.linalg.solve(
        centred.T @ centred + _RIDGE * np.eye(design.shape[1]), centred.T @ (scores - scores.mean())
    )
    for group in groups:
        found[group] -= found[group].mean()
    return found


def _components(trial: FrozenTrial) -> dict[str, str]:
    architecture = trial.user_attrs.get("architecture")
    if not architecture:
        return {}
    encoders = {modality: str(spec["name"]) for modality, spec in architecture["encoders"].items()}
    return {"fusion": str(architecture["fusion"]["name"]), **encoders}
