"""Duplicates: a candidate that a study has had before is not trained again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from encoders import ENCODERS
from fusion import FUSIONS
from fusion.component import Architecture, Spec, hyperparameters
from search.pruning import BUDGET, root_of

DUPLICATE_OF = "duplicate_of"
"""The user attribute of a duplicate: the number of the trial whose candidate it has."""
REDRAWS = 3
_REDRAWN, _REDRAWS, _INSTEAD_OF = "redrawn", "redraws", "instead_of"
_EXHAUSTED = 50


def canonical(architecture: Architecture) -> dict[str, Any]:
    """Return the one way to write an architecture: without what is the default anyway, in no order of modalities."""
    encoders = {
        modality: _canonical(spec, ENCODERS.get(modality, {})) for modality, spec in architecture.encoders.items()
    }
    head = {"head": architecture.head.to_dict()} if architecture.head != Spec("linear") else {}
    return {"encoders": encoders, "fusion": _canonical(architecture.fusion, FUSIONS), "dim": architecture.dim, **head}


def _canonical(spec: Spec, catalogue: Mapping[str, type]) -> dict[str, Any]:
    known = hyperparameters(catalogue[spec.name]) if spec.name in catalogue else {}
    defaults = {name: _written(each.default) for name, each in known.items()}
    kept = {name: value for name, value in spec.params.items() if _written(value) != defaults.get(name)}
    return {"name": spec.name, **kept}


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)  # True is not 1, but a tuple is the list it is read back as


def is_duplicate(trial: FrozenTrial) -> bool:
    """Tell whether a trial was not trained because its candidate had been there before."""
    return DUPLICATE_OF in trial.user_attrs


def is_redrawn(trial: FrozenTrial) -> bool:
    """Tell whether a duplicate gave its ticket to another draw, so that it does not count against the budget."""
    return bool(trial.user_attrs.get(_REDRAWN, False))


def find_twin(trials: Sequence[FrozenTrial], key: str, root: int) -> FrozenTrial | None:
    """Return the trial that a candidate is a duplicate of, if there is one.

    Twins are complete, were cut short for what they scored or cost, or go on; of two that go on the older root stays.
    A trial that failed or that the spent budget ended says too little, so its candidate may be tried again. A root that
    has trained is nobody's duplicate.
    """
    last: dict[int, FrozenTrial] = {}
    for each in trials:
        last[root_of(each)] = each
        if root_of(each) == root and each.user_attrs.get("history"):
            return None
    same = (each for each in last.values() if each.user_attrs.get("key") == key and not is_duplicate(each))
    return next((each for each in same if root_of(each) != root and _stands_for(each, root)), None)


def _stands_for(twin: FrozenTrial, root: int) -> bool:
    if twin.state == TrialState.PRUNED:
        return twin.user_attrs.get("pruned_by") != BUDGET
    return twin.state == TrialState.COMPLETE or (not twin.state.is_finished() and root_of(twin) < root)


def record_duplicate(study: optuna.Study, trial: optuna.Trial, twin: FrozenTrial, *, tickets: bool) -> Sequence[float]:
    """Say whose duplicate a trial is, give its ticket to another draw, and return the scores of its twin.

    A ticket is drawn anew up to 3 times; then the duplicate spends it, so that a space with fewer candidates than
    tickets comes to an end. A worker may die at any line: the note comes before the new ticket, because missing
    tickets are issued again when a study is resumed.

    Args:
        tickets: the budget is in trials; other budgets lose nothing by a duplicate.

    Raises:
        TrialPruned: the twin has no scores, or none yet.
    """
    trial.set_user_attr(DUPLICATE_OF, twin.number)
    for limit, over in twin.constraints.items():  # or samplers would take its scores for those of one within limits
        trial.set_constraint(limit, over)
    redraws = int(trial.user_attrs.get(_REDRAWS, 0))
    root = int(trial.user_attrs.get("root", trial.number))
    if tickets and redraws < REDRAWS:
        trial.set_user_attr(_REDRAWN, True)
        if not any(each.user_attrs.get(_INSTEAD_OF) == root for each in study.get_trials(deepcopy=False)):
            about = {_REDRAWS: redraws + 1, _INSTEAD_OF: root}
            study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=about))
    if twin.state != TrialState.COMPLETE or not twin.values:
        trial.set_user_attr("pruned_by", "duplicate")
        raise optuna.TrialPruned(f"a duplicate of trial {twin.number}")
    return list(twin.values)


def is_exhausted(trials: Sequence[FrozenTrial]) -> bool:
    """Tell whether so many draws in a row were duplicates that the space must have no other candidates left."""
    return len(trials) >= _EXHAUSTED and all(map(is_duplicate, trials[-_EXHAUSTED:]))
