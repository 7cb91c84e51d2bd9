"""Multi-fidelity by epochs: halving, Hyperband, and halving that pauses trials and promotes them later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

PRUNERS = ("halving", "pausing", "hyperband", "none")
PAUSED, BUDGET = "paused", "budget"  # why a trial ended that may go on later


def make_pruner(name: str, *, first_rung: int, reduction: int, epochs: int) -> BasePruner:
    """Build a pruner.

    - `halving`: at each rung only the best of those that got there go on; the others are lost.
    - `pausing`: as halving, but the others keep their checkpoint and go on when more rivals have been beaten.
    - `hyperband`: several halvings side by side that cut at different epochs, for scores that start slowly.

    Args:
        first_rung: the first epoch at which a trial may end; one-epoch scores rank badly.
        reduction: one trial in so many goes on, so many times as long.
        epochs: the longest a trial may train.

    Reference:
        Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), 2020; Li et al., Hyperband, 2018.
    """
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "pausing":
        return PausingPruner(first_rung, reduction, epochs)
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=min(first_rung, epochs), max_resource=epochs, reduction_factor=reduction
        )
    return optuna.pruners.SuccessiveHalvingPruner(min_resource=first_rung, reduction_factor=reduction)


@dataclass(frozen=True)
class PausingPruner(BasePruner):
    """Stops a trial at a rung unless it is among the best 1/`reduction` of the trials that got there so far."""

    first_rung: int
    reduction: int
    epochs: int

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Tell whether a trial that has just reported stops here."""
        epoch = trial.last_step
        if epoch is None or not self.is_rung(epoch):
            return False
        trials = study.get_trials(deepcopy=False)
        root, earlier = root_of(trial), [each for each in trials if each.number < trial.number]
        if any(root_of(each) == root and (each.last_step or 0) >= epoch for each in earlier):
            return False  # it was promoted past this rung, and only says again what it said before
        return root not in self.best([*trials, trial], epoch, study.directions[0])

    def is_rung(self, epoch: int) -> bool:
        """Tell whether trials are compared after an epoch; after the last there is nothing to go on to."""
        if epoch >= self.epochs:
            return False
        rung = self.first_rung
        while rung < epoch:
            rung *= self.reduction
        return rung == epoch

    def best(self, trials: Sequence[FrozenTrial], epoch: int, direction: StudyDirection) -> set[int]:
        """Return the roots of the trials that may go on from a rung."""
        reached = [each for each in trials if epoch in each.intermediate_values]
        scores = {root_of(each): each.intermediate_values[epoch] for each in reached}
        ranked = sorted(scores, key=lambda root: scores[root], reverse=direction == StudyDirection.MAXIMIZE)
        return set(ranked[: len(ranked) // self.reduction])

    def promotable(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the paused trials that have come to be among the best of their rung, those that got furthest first."""
        trials = study.get_trials(deepcopy=False)
        paused = [each for each in last_attempts(trials).values() if is_paused(each)]
        rungs = {each.last_step for each in paused}
        best = {rung: self.best(trials, int(rung or 0), study.directions[0]) for rung in rungs}
        found = [each for each in paused if root_of(each) in best[each.last_step]]
        return sorted(found, key=lambda each: -int(each.last_step or 0))


def root_of(trial: FrozenTrial) -> int:
    """Return the number of a trial's first attempt."""
    return int(trial.user_attrs.get("root", trial.number))


def last_attempts(trials: Sequence[FrozenTrial]) -> dict[int, FrozenTrial]:
    """Return the last attempt of each root."""
    return {root_of(each): each for each in trials}


def is_paused(trial: FrozenTrial) -> bool:
    """Tell whether a trial waits at a rung with its checkpoint."""
    return trial.state == TrialState.PRUNED and trial.user_attrs.get("pruned_by") == PAUSED
