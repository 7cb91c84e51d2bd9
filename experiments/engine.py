"""The local engine: starts workers as processes, starts dead ones again, and lets no trial be lost with them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.slots import slot_environment, visible_gpus
from experiments.worker import WorkerSpec, lives, work, worker_id
from search.attempts import fail_lost, promote, rescue
from search.spending import trained_epochs

_UNSIGNED_SECONDS = 10.0  # a worker that has not signed its trial after this long died before it could
_CRASHES_ALLOWED = 20
Ending = Literal["complete", "interrupted", "budget", "exhausted", "crashes"]


class Engine(Protocol):
    """Starts workers somewhere and says how they are."""

    def start(self, slot: int) -> None:
        """Start the worker of a slot."""
        ...

    def poll(self) -> list[tuple[int, str, int]]:
        """Return (slot, worker id, exit code) of the workers that ended since the last call."""
        ...

    def running(self) -> int:
        """Return how many workers run."""
        ...

    def signal(self, value: int) -> None:
        """Tell all workers: 1 hand back and end, 2 the budget is spent."""
        ...

    def stop(self, grace_seconds: float) -> None:
        """Ask all workers to end, wait, then kill."""
        ...


@dataclass
class LocalEngine:
    """Worker processes on this machine: they take the GPUs in turns where there are any, else one CPU thread each."""

    spec: WorkerSpec
    preload: tuple[str, ...] = ("experiments.objective",)
    _processes: dict[int, tuple[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(self.preload))
        self._signal = self._context.Value("i", 0)
        self._gpus = visible_gpus()

    def start(self, slot: int) -> None:
        """Start the worker of a slot."""
        environment = slot_environment(slot, self._gpus) | self.spec.environment
        log = Path(self.spec.log).with_name(f"worker-{slot}.log")
        spec = replace(self.spec, slot=slot, log=str(log), environment=environment)
        nonce = uuid.uuid4().hex[:8]
        process = self._context.Process(target=work, args=(spec.to_json(), nonce, self._signal), daemon=True)
        process.start()
        self._processes[slot] = (worker_id(int(process.pid or 0), nonce), process)

    def poll(self) -> list[tuple[int, str, int]]:
        """Return (slot, worker id, exit code) of the workers that ended since the last call.

        An exit code alone proves nothing: where the process that forks them is killed, all workers get one at once,
        also those that still hand back their trials.
        """
        ended = [
            (slot, identity, int(process.exitcode))
            for slot, (identity, process) in self._processes.items()
            if process.exitcode is not None and not lives(identity)
        ]
        for slot, _, _ in ended:
            del self._processes[slot]
        return ended

    def running(self) -> int:
        """Return how many workers run."""
        return len(self._processes)

    def signal(self, value: int) -> None:
        """Tell all workers: 1 hand back and end, 2 the budget is spent."""
        self._signal.value = value

    def stop(self, grace_seconds: float) -> None:
        """Ask all workers to end, wait, then kill."""
        if self._signal.value == 0:
            self._signal.value = 1
        deadline = time.monotonic() + grace_seconds
        while any(lives(identity) for identity, _ in self._processes.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for identity, process in self._processes.values():
            if lives(identity):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            process.join()


def supervise(
    study: optuna.Study,
    engine: Engine,
    workers: int,
    *,
    on_tick: Callable[[Sequence[FrozenTrial]], None],
    seconds: float | None = None,
    epochs: int | None = None,
    on_spent: Callable[[float], None] | None = None,
    promoting: AbstractContextManager[object] | None = None,
    poll_seconds: float = 0.5,
    grace_seconds: float = 60.0,
) -> Ending:
    """Keep workers going until the budget is spent; a dead worker's trial fails at once and runs again once.

    The first Ctrl-C or SIGTERM lets the workers hand back their trials; the second ends them.

    Args:
        seconds: what is left of a budget in seconds.
        epochs: a budget in epochs of all trials together; without it and seconds, tickets are the budget.
        on_spent: called with the seconds since the last call, to keep the account of such a budget.
        promoting: a lock against other drivers, so that no paused trial goes on twice.
        grace_seconds: how long workers may take to hand back before they are killed.
    """
    lost = _Lost()
    rescue(study)
    fail_lost(study, lost)
    with _asked_to_stop() as asked, _stopped(engine, grace_seconds):
        for slot in range(workers):
            engine.start(slot)
        ending: Ending = "complete"
        idle: set[int] = set()
        crashes, started = 0, time.monotonic()
        counted = asked_at = started
        trials: Sequence[FrozenTrial] = ()
        while engine.running() or (ending == "complete" and any(map(_unsigned, trials))):
            time.sleep(poll_seconds)
            ended = engine.poll()
            crashes += sum(code != 0 for _, _, code in ended)
            lost.dead.update(identity for _, identity, _ in ended)
            fail_lost(study, lost, stopped=ending != "complete")
            if ending == "complete":
                with promoting or nullcontext():
                    promote(study)
            trials = study.get_trials(deepcopy=False)
            on_tick(trials)
            if on_spent is not None:
                on_spent(time.monotonic() - counted)
                counted = time.monotonic()
            if ending == "complete":
                ending = _should_end(asked, crashes)
                if ending == "complete" and _is_spent(trials, epochs, seconds, started):
                    ending = "budget"
                asked_at = time.monotonic()
                if ending != "complete":
                    engine.signal(2 if ending == "budget" else 1)
                else:
                    idle.update(slot for slot, _, _ in ended)
                    crashed = {slot for slot, _, code in ended if code != 0}
                    _restart(engine, idle, trials, crashed if seconds is not None or epochs is not None else set())
            elif asked.count > 1 or time.monotonic() - asked_at > grace_seconds:
                engine.stop(0.0)
    return ending


def _should_end(asked: _Asked, crashes: int) -> Ending:
    if asked.count:
        return "interrupted"
    return "crashes" if crashes > _CRASHES_ALLOWED else "complete"


def _is_spent(trials: Sequence[FrozenTrial], epochs: int | None, seconds: float | None, started: float) -> bool:
    if seconds is not None and time.monotonic() - started > seconds:
        return True
    return epochs is not None and trained_epochs(trials) >= epochs


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
