"""Several trials of one structure that run together in one worker, each a trial like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from search.storage import STORAGE_ERRORS
from search.trial import Ending, StackingObjective, Started

_FIXED = "fixed_params"  # Optuna's name of what `enqueue_trial` wants of a trial


class StackFailed(RuntimeError):
    """Something ended all trials that ran together, such as a lack of memory; each runs once more, alone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Group:
    """What it takes to run trials together.

    A worker starts a trial as always. If its structure can be stacked, more trials are started that are given the same
    structure and draw their own numbers. Each has its ticket, its record, its sign of life and its end; if the worker
    dies, each is handed back and runs again, alone. So does a trial that goes on from a checkpoint.

    Args:
        begin: signs a trial and chooses its candidate, or returns the scores of the one it duplicates.
        conclude: runs one trial and notes how it ended; raises what Optuna is to be told.
    """

    study: optuna.Study
    objective: StackingObjective
    begin: Callable[[optuna.Trial], Started | Sequence[float]]
    conclude: Callable[[Started, Callable[[], float | Sequence[float]]], Sequence[float]]

    def run(self, leader: Started, most: int, *, tickets: bool) -> Sequence[float]:
        """Run a trial, and at most so many others with it, and return its scores.

        Args:
            tickets: the budget is in trials, so that others are started from tickets only.
        """
        with ExitStack() as alive:
            started = [leader, *self._others(leader, most, tickets, alive)]
            if len(started) == 1:
                return self.conclude(leader, lambda: self.objective(leader.candidate, leader.handle))
            for each in started:
                each.handle.note(together=[other.trial.number for other in started])
            first, *others = self._together(started)
            for each, end in zip(started[1:], others, strict=True):
                self._end(each, end)
            return self.conclude(leader, lambda: _give(first))

    def _together(self, started: Sequence[Started]) -> Sequence[Ending]:
        try:
            return self.objective.together(started)
        except STORAGE_ERRORS:
            raise  # no trial is to blame
        except Exception as error:  # whatever it is, no trial may be left behind
            return [StackFailed(error)] * len(started)

    def _others(self, leader: Started, most: int, tickets: bool, alive: ExitStack) -> Iterator[Started]:
        params = leader.trial.params
        pinned = {name: value for name, value in params.items() if not self.objective.may_differ(name)}
        if leader.handle.attempt or len(pinned) == len(params) or not self.objective.can_stack(leader.candidate):
            return
        for _ in range(most):
            trial = None if leader.handle.should_stop() else _take(self.study, pinned, tickets)
            if trial is None:
                return
            beat = get_heartbeat_thread(trial._trial_id, self.study._storage)
            beat.start()
            alive.callback(beat.join)
            try:
                found = self.begin(trial)
            except Exception as why:
                self._tell(trial, why)
                continue
            if isinstance(found, Started):
                yield found
            else:
                self._tell(trial, found)

    def _end(self, started: Started, end: Ending) -> None:
        try:
            values = self.conclude(started, lambda: _give(end))
        except Exception as why:  # it is noted by now
            self._tell(started.trial, why)
        else:
            self._tell(started.trial, values)

    def _tell(self, trial: optuna.Trial, end: Sequence[float] | Exception) -> None:
        """Tell the study how a trial ended, as `optimize` does for the first of a group."""
        if not isinstance(end, Exception):
            self.study.tell(trial, end, skip_if_finished=True)
            return
        state = TrialState.PRUNED if isinstance(end, optuna.TrialPruned) else TrialState.FAIL
        self.study.tell(trial, state=state, skip_if_finished=True)


def _give(end: Ending) -> float | Sequence[float]:
    if isinstance(end, Exception):
        raise end
    return end


def _take(study: optuna.Study, pinned: Mapping[str, Any], tickets: bool) -> optuna.Trial | None:
    """Start one more trial with some choices made; of the tickets, only one that nobody has begun."""
    storage, number = study._storage, None
    if not tickets:
        number = storage.create_new_trial(study._study_id)
    else:
        for each in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            fresh = not each.params and _FIXED not in each.system_attrs and "root" not in each.user_attrs
            if not fresh:
                continue
            with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another worker took it, and is done with it
                if storage.set_trial_state_values(each._trial_id, TrialState.RUNNING):
                    number = each._trial_id
                    break
    if number is None:
        return None
    storage.set_trial_system_attr(number, _FIXED, dict(pinned))
    return optuna.Trial(study, number)
