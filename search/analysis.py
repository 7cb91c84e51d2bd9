"""What a study taught: which choices mattered, how components did, what was never tried."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence
from statistics import mean

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.duplicates import is_duplicate
from search.objectives import maximises, score_of
from search.space import Space

_ENOUGH = 8


def importance(study: optuna.Study) -> dict[str, float]:
    """Return how much of the variation in score each choice explains (PED-ANOVA); empty for too few trials.

    Reference:
        Watanabe, Bansal, Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance, 2023.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _ENOUGH or len({score_of(trial) for trial in complete}) < 2:
        return {}
    shared = set.intersection(*(set(trial.params) for trial in complete))
    varied = [name for name in sorted(shared) if len({trial.params[name] for trial in complete}) > 1]
    if not varied:
        return {}
    sign = -1.0 if maximises(study) else 1.0  # the evaluator asks what makes its target low
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says so each time
        found = optuna.importance.get_param_importances(
            study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            params=varied,
            target=lambda trial: sign * trial.values[0],
        )
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def component_scores(trials: Sequence[FrozenTrial], maximise: bool) -> list[tuple[str, str, int, float, float]]:
    """Return place, component, trials, mean and best score of every component that finished a trial."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for trial in trials:
        architecture = trial.user_attrs.get("architecture")
        score = score_of(trial)
        if trial.state != TrialState.COMPLETE or not architecture or score is None or is_duplicate(trial):
            continue
        found["fusion", architecture["fusion"]["name"]].append(score)
        for modality, spec in architecture["encoders"].items():
            found[modality, spec["name"]].append(score)
    return [
        (place, name, len(scores), mean(scores), (max if maximise else min)(scores))
        for (place, name), scores in sorted(found.items())
    ]


def fusion_by_encoder(trials: Sequence[FrozenTrial], maximise: bool) -> dict[tuple[str, str], dict[str, float]]:
    """Return the best score of each fusion with each (modality, encoder), of finished trials."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    better = max if maximise else min
    for trial in trials:
        architecture = trial.user_attrs.get("architecture")
        score = score_of(trial)
        if trial.state != TrialState.COMPLETE or not architecture or score is None:
            continue
        fusion = architecture["fusion"]["name"]
        for modality, spec in architecture["encoders"].items():
            row = found[modality, spec["name"]]
            row[fusion] = better(row.get(fusion, score), score)
    return dict(sorted(found.items()))


def never_tried(space: Space, trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the components of a space that no trial has used."""
    used = set()
    for trial in trials:
        architecture = trial.user_attrs.get("architecture") or {"encoders": {}, "fusion": {"name": ""}}
        used.add(f"fusion {architecture['fusion']['name']}")
        for modality in space.encoders:
            used.add(f"{modality} {architecture['encoders'].get(modality, {'name': 'none'})['name']}")
    every = [f"fusion {name}" for name in space.fusion]
    every += [f"{modality} {name}" for modality, options in space.encoders.items() for name in options]
    return [name for name in every if name not in used]
