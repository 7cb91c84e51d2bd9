"""Attempts of a trial: handed back when a worker stops or dies, promoted when a pause is over, never doubled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.duplicates import is_redrawn
from search.locking import one_on_all_hosts
from search.pruning import BUDGET, PausingPruner, is_paused, last_attempts, root_of
from search.storage import NO_SIGN_OF_LIFE, storage_of

CRASHES_ALLOWED = 1
_DIED, _INTERRUPTED = "its worker died", "interrupted"
_KEPT = ("root", "attempt", "crashes", "architecture", "training", "key", "redraws", "redrawn")


def is_root(trial: FrozenTrial) -> bool:
    """Tell whether a trial is a first attempt, and no duplicate that was drawn anew; only these count as trials."""
    return not trial.user_attrs.get("attempt", 0) and not is_redrawn(trial)


def hand_back(study: optuna.Study, trial: FrozenTrial, *, crashed: bool = False) -> None:
    """Add a WAITING trial with the same parameters and root, which goes on from the checkpoint; never a second one."""
    kept = {name: value for name, value in trial.user_attrs.items() if name in _KEPT}
    kept["root"] = root_of(trial)
    kept["attempt"] = int(kept.get("attempt", 0)) + 1
    kept["crashes"] = int(kept.get("crashes", 0)) + int(crashed)
    again = create_trial(
        state=TrialState.WAITING, params=trial.params, distributions=trial.distributions, user_attrs=kept
    )
    with _alone(study):
        if not _continued(study.get_trials(deepcopy=False), trial):
            study.add_trial(again)


def hand_back_crashed(study: optuna.Study, trial: FrozenTrial) -> None:
    """Run a trial once more whose worker died; a second death is its end."""
    if int(trial.user_attrs.get("crashes", 0)) < CRASHES_ALLOWED:
        hand_back(study, trial, crashed=True)


def promote(study: optuna.Study) -> int:
    """Hand back the paused trials that have come to be worth going on with; return how many. For one process."""
    if not isinstance(study.pruner, PausingPruner):
        return 0
    found = study.pruner.promotable(study)
    for trial in found:
        hand_back(study, trial)
    return len(found)


def continue_stopped(study: optuna.Study) -> int:
    """Hand back the trials that a spent budget ended, now that it has grown; return how many. For one process."""
    last = last_attempts(study.get_trials(deepcopy=False)).values()
    found = [each for each in last if each.state == TrialState.PRUNED and each.user_attrs.get("pruned_by") == BUDGET]
    for trial in found:
        hand_back(study, trial)
    return len(found)


def fail_lost(study: optuna.Study, lost: Callable[[FrozenTrial], bool], *, stopped: bool = False) -> int:
    """Fail the RUNNING trials whose worker is lost and hand each back; return how many there were.

    Args:
        stopped: the workers were killed on purpose, so that no trial is blamed for it.
    """
    found = [trial for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if lost(trial)]
    return sum(_fail_lost(study, trial, stopped) for trial in found)


def _fail_lost(study: optuna.Study, trial: FrozenTrial, stopped: bool) -> bool:
    again = int(trial.user_attrs.get("crashes", 0)) < CRASHES_ALLOWED
    failure = _INTERRUPTED if stopped else _DIED if again else "its worker died twice"
    if not fail(study, trial, failure):
        return False
    if stopped:
        hand_back(study, trial)
    else:
        hand_back_crashed(study, trial)
    return True


def fail(study: optuna.Study, trial: FrozenTrial, why: str) -> bool:
    """Fail a RUNNING trial with a reason, from outside of its worker; False where it has ended by itself."""
    try:
        study._storage.set_trial_user_attr(trial._trial_id, "failure", why)
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:  # somebody else was faster
        return False
    return True


def is_over(trial: FrozenTrial) -> bool:
    """Tell whether nothing will go on from the last attempt of a trial, so that its checkpoint is of no more use."""
    goes_on = trial.user_attrs.get("failure") in (_DIED, _INTERRUPTED, NO_SIGN_OF_LIFE)
    goes_on = goes_on or is_paused(trial) or trial.user_attrs.get("pruned_by") == BUDGET
    return trial.state.is_finished() and not goes_on


def rescue(study: optuna.Study) -> None:
    """Hand back the trials that were failed for their dead workers by a process that died before it could do so."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        if trial.user_attrs.get("failure") in (_DIED, NO_SIGN_OF_LIFE):
            hand_back_crashed(study, trial)


def _alone(study: optuna.Study) -> AbstractContextManager[None]:
    """Let one process of all hosts at a time look whether a trial was handed back, and do so."""
    storage = storage_of(study)
    return nullcontext() if storage is None else one_on_all_hosts(storage.url, study.study_name)


def _continued(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> bool:
    """Tell whether a later attempt of a trial exists."""
    return any(root_of(each) == root_of(trial) and each.number > trial.number for each in trials)
