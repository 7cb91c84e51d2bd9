"""What a study found, as plain rows and pictures, for pages and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.live import describe
from experiments.plots import progress_png
from search.objectives import feasible, is_candidate, maximises, score_of


def leaderboard(study: optuna.Study, top: int = 10) -> list[dict[str, Any]]:
    """Return the best trials, best first: number, score on the tuning split, architecture, training, size, seconds.

    The scores, in the study's metric, flatter, because the trials were chosen by them.
    """
    trials = filter(is_candidate, study.get_trials(deepcopy=False))
    ranked = sorted(trials, key=lambda trial: float(trial.values[0]), reverse=maximises(study))[:top]
    return [
        {
            "trial": trial.number,
            "score": float(trial.values[0]),
            "architecture": describe(trial),
            "training": dict(trial.user_attrs.get("training", {})),
            "parameters": int(trial.user_attrs.get("parameters", 0)),
            "seconds": float(trial.user_attrs.get("seconds", 0)),
        }
        for trial in ranked
    ]


def progress_picture(study: optuna.Study) -> bytes | None:
    """Draw the score of each trial and the best so far as PNG; None before the first has a score."""
    points = _points(study.get_trials(deepcopy=False))
    return progress_png(points, str(study.user_attrs.get("metric", "score")), maximises(study)) if points else None


def _points(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [
        {
            "number": trial.number,
            "score": score_of(trial)
            if trial.state == TrialState.COMPLETE
            else trial.user_attrs["history"][-1]["score"],
            "fusion": trial.user_attrs["architecture"]["fusion"]["name"],
            "pruned": trial.state != TrialState.COMPLETE or not feasible(trial),
        }
        for trial in trials
        if trial.state == TrialState.COMPLETE or (trial.state == TrialState.PRUNED and trial.user_attrs.get("history"))
    ]
