"""What a study taught: how components did, alone and in pairs, and what was never tried."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import mean

from optuna.trial import FrozenTrial, TrialState

from search.duplicates import is_duplicate
from search.objectives import score_of
from search.settings import NONE
from search.space import Space


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
    used = {name for fusion, encoders in _used(space, trials) for name in (f"fusion {fusion}", *encoders)}
    return [*(f"fusion {name}" for name in space.fusion if f"fusion {name}" not in used), *(_places(space, used))]


def never_together(space: Space, trials: Sequence[FrozenTrial]) -> tuple[list[tuple[str, str]], int]:
    """Return the pairs of a fusion and an encoder that no trial has used together, and how many pairs there are."""
    used = {(fusion, name) for fusion, encoders in _used(space, trials) for name in encoders}
    every = [(fusion, name) for fusion in space.fusion for name in _places(space, set())]
    return [pair for pair in every if pair not in used], len(every)


def _places(space: Space, used: set[str]) -> list[str]:
    names = [f"{modality} {name}" for modality, options in space.encoders.items() for name in options]
    return [name for name in names if name not in used]


def _used(space: Space, trials: Sequence[FrozenTrial]) -> list[tuple[str, list[str]]]:
    """Return the fusion and the encoders of every trial that chose some; a modality left out is an encoder too."""
    found = []
    for trial in trials:
        architecture = trial.user_attrs.get("architecture")
        if architecture:
            names = {place: architecture["encoders"].get(place, {"name": NONE})["name"] for place in space.encoders}
            found.append((str(architecture["fusion"]["name"]), [f"{place} {name}" for place, name in names.items()]))
    return found
