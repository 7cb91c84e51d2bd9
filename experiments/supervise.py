"""The supervisor of a search: starts workers, starts dead ones again, and lets no trial be lost with them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.engine import TAKEN, Engine
from search.attempts import fail, fail_lost, promote, rescue
from search.identity import lives
from search.spending import is_spent
from search.trial import too_long

_UNSIGNED_SECONDS = 10.0  # a worker that has not signed its trial after this long died before it could
_CRASHES_ALLOWED = 20
Ending = Literal["complete", "interrupted", "budget", "exhausted", "crashes"]


def supervise(
    study: optuna.Study,
    engine: Engine,
    workers: int,
    *,
    on_tick: Callable[[Sequence[FrozenTrial]], None],
    seconds: float | None = None,
    epochs: int | None = None,
    flops: float | None = None,
    on_spent: Callable[[float], None] | None = None,
    promoting: AbstractContextManager[object] | None = None,
    poll_seconds: float = 0.5,
    grace_seconds: float = 60.0,
    trial_seconds: float | None = None,
) -> Ending:
    """Keep workers going until the budget is spent; a dead worker's trial fails at once and runs again once.

    The first Ctrl-C or SIGTERM lets the workers hand back their trials; the second ends them. Workers that end badly,
    many in a row without a trial that ends well in between, end the search.

    Args:
        seconds: what is left of a budget in seconds.
        epochs: a budget in epochs of all trials together.
        flops: the same in floating-point operations; without it, epochs and seconds, tickets are the budget.
        on_spent: called with the seconds since the last call, to keep the account of such a budget.
        promoting: a lock against other drivers, so that no paused trial goes on twice.
        grace_seconds: how long workers may take to hand back before they are killed.
        trial_seconds: what a trial may take; its worker ends it itself, and is killed if it has not after the grace.
    """
    lost, late, crashes = _Lost(), _Late(trial_seconds, grace_seconds), _Crashes()
    rescue(study)
    fail_lost(study, lost)
    with _asked_to_stop() as asked, _stopped(engine, grace_seconds):
        for slot in range(workers):
            engine.start(slot)
        ending: Ending = "complete"
        idle: set[int] = set()
        counted = asked_at = started = time.monotonic()
        trials: Sequence[FrozenTrial] = ()
        while engine.running() or (ending == "complete" and any(map(_unsigned, trials))):
            time.sleep(poll_seconds)
            ended = engine.poll()
            taken = {identity for _, identity, code in ended if code == TAKEN}
            fail_lost(study, _worker_in(taken), stopped=True)
            lost.dead.update(identity for _, identity, _ in ended)
            fail_lost(study, lost, stopped=ending != "complete")
            if ending == "complete":
                with promoting or nullcontext():
                    promote(study)
            trials = study.get_trials(deepcopy=False)
            late.end(study, engine, trials)
            crashes.count([code for _, worker, code in ended if worker not in late.ended], trials)
            on_tick(trials)
            if on_spent is not None:
                on_spent(time.monotonic() - counted)
                counted = time.monotonic()
            if ending == "complete":
                ending = _should_end(asked, crashes.in_a_row)
                if ending == "complete" and _is_over(trials, epochs, flops, seconds, started):
                    ending = "budget"
                asked_at = time.monotonic()
                if ending != "complete":
                    engine.signal(2 if ending == "budget" else 1)
                else:
                    idle.update(slot for slot, _, _ in ended)
                    crashed = {slot for slot, _, code in ended if code != 0}
                    tickets = seconds is None and epochs is None and flops is None
                    if tickets and all(trial.state.is_finished() for trial in trials):
                        idle.update(engine.withdraw())  # nothing is left to do there
                    _restart(engine, idle, trials, set() if tickets else crashed)
            elif asked.count > 1 or time.monotonic() - asked_at > grace_seconds:
                engine.stop(0.0)
    return ending


def _should_end(asked: _Asked, crashes: int) -> Ending:
    if asked.count:
        return "interrupted"
    return "crashes" if crashes > _CRASHES_ALLOWED else "complete"


def _is_over(
    trials: Sequence[FrozenTrial], epochs: int | None, flops: float | None, seconds: float | None, started: float
) -> bool:
    return (seconds is not None and time.monotonic() - started > seconds) or is_spent(trials, epochs, flops)


def _restart(engine: Engine, idle: set[int], trials: Sequence[FrozenTrial], crashed: set[int]) -> None:
    """Start idle workers again while there is work for them, such as a promoted trial; those of `crashed` anyway."""
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    for slot in sorted(idle):
        if waiting > 0 or slot in crashed:
            engine.start(slot)
            idle.remove(slot)
            waiting -= 1


def _unsigned(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.RUNNING and "worker" not in trial.user_attrs


def _worker_in(workers: set[str]) -> Callable[[FrozenTrial], bool]:
    return lambda trial: trial.user_attrs.get("worker") in workers


class _Lost:
    """Tells whether the worker of a RUNNING trial is gone."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self._since: dict[int, float] = {}

    def __call__(self, trial: FrozenTrial) -> bool:
        if _unsigned(trial):
            return time.monotonic() - self._since.setdefault(trial.number, time.monotonic()) > _UNSIGNED_SECONDS
        worker = trial.user_attrs["worker"]
        return worker in self.dead or not lives(worker)


class _Late:
    """Ends the trials that take too long and cannot end themselves, because they hang between two steps."""

    def __init__(self, trial_seconds: float | None, grace_seconds: float) -> None:
        self.trial_seconds, self.grace_seconds = trial_seconds, grace_seconds
        self.ended: set[str] = set()
        self._since: dict[int, float] = {}

    def end(self, study: optuna.Study, engine: Engine, trials: Sequence[FrozenTrial]) -> None:
        """Fail what is late and kill its worker, if it is one of this engine's; time is this process's own."""
        if self.trial_seconds is None:
            return
        for trial in trials:
            if trial.state != TrialState.RUNNING or not engine.runs(trial.user_attrs.get("worker", "")):
                continue
            took = time.monotonic() - self._since.setdefault(trial.number, time.monotonic())
            # failed first, so that nobody takes it for the trial of a worker that died and hands it back
            if took > self.trial_seconds + self.grace_seconds and fail(study, trial, too_long(self.trial_seconds)):
                self.ended.add(trial.user_attrs["worker"])
                engine.kill(trial.user_attrs["worker"])


class _Crashes:
    """Counts workers that ended badly since a trial last ended well."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self._well: int | None = None

    def count(self, codes: Sequence[int], trials: Sequence[FrozenTrial]) -> None:
        """Take note of exit codes and of how the trials stand."""
        well = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
        if self._well is not None and well > self._well:
            self.in_a_row = 0
        self._well = well
        self.in_a_row += sum(code != 0 for code in codes)


@contextmanager
def _stopped(engine: Engine, grace_seconds: float) -> Iterator[None]:
    """Leave no worker behind, whatever happens."""
    try:
        yield
    finally:
        engine.stop(grace_seconds)


class _Asked:
    """How often somebody asked this process to stop."""

    count = 0


@contextmanager
def _asked_to_stop() -> Iterator[_Asked]:
    """Count Ctrl-C and SIGTERM instead of dying of them; only the main thread can."""
    asked = _Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def count(*_: object) -> None:
        asked.count += 1

    before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
