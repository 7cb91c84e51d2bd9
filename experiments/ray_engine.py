"""Workers on a Ray cluster: an actor a worker, which takes the place it needs and holds the worker's process there.

The process is the one that the local engine starts: it has its own signals, its own GPU context, and ends with its
actor, handing back its trial. Ray restarts nothing: what a trial has come to is in the storage, and the supervisor
starts a lost worker anew wherever the cluster has room.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from experiments.engine import TAKEN
from experiments.ray_host import POSTGRESQL, Begun, Host, is_sqlite
from experiments.worker import WorkerSpec
from fusion.component import UsageError
from search.identity import lives

_FAREWELL_SECONDS = 10.0  # what a worker has to hand back its trial after it has lost its actor
_PATIENCE_SECONDS = 3.0  # a place that is found sooner is not worth a word


def check_storage(storage: str) -> None:
    """Refuse a storage that the machines of the cluster cannot share.

    Raises:
        UsageError: it is SQLite, and there is more than one machine.
    """
    count = len(machines())
    if is_sqlite(storage) and count > 1:
        raise UsageError(f"the Ray cluster has {count} machines, which cannot share SQLite; {POSTGRESQL}")


def machines() -> set[str]:
    """Return the names of the cluster's machines."""
    return {node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}


def connect() -> None:
    """Join the cluster that RAY_ADDRESS or this machine names, or start one on this machine alone.

    Raises:
        UsageError: it does not answer.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a hospital's machines leaves them
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # `Host` says who sees no GPU; silences a hint
    try:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise UsageError(f"the Ray cluster does not answer: {' '.join(str(error).split())}") from None


@dataclass
class _Worker:
    """A worker that was asked for: its actor, what it was last asked, and who it is once it has a place."""

    actor: Any
    answer: Any
    asked: float
    begun: Begun | None = None
    lost: float | None = None


@dataclass
class RayEngine:
    """Workers on a Ray cluster, each with so many CPUs and GPUs, a part of a GPU included.

    Without `gpus` it is as many as a trial has devices where the cluster has any, else none. A cluster that grows on
    demand does so for workers that have no place yet; if none has one after `placement_seconds`, the search ends.
    """

    spec: WorkerSpec
    cpus: float = 1.0
    gpus: float | None = None
    placement_seconds: float = 600.0
    preload: tuple[str, ...] = ("experiments.objective",)
    _workers: dict[int, _Worker] = field(default_factory=dict)
    _signal: int = 0

    def __post_init__(self) -> None:
        connect()
        if self.gpus is None:
            self.gpus = float(self.spec.devices) if ray.cluster_resources().get("GPU", 0) else 0.0
        self.spec = replace(self.spec, threads=max(1, int(self.cpus)))
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._host: Any = ray.remote(**options)(Host)

    def places(self) -> int:
        """Return how many workers fit into the cluster as it is, at least 1."""
        has = ray.cluster_resources()
        fit = [has.get(name, 0) / each for name, each in self._needs().items() if each > 0]
        return max(1, int(min(fit, default=1)))

    def start(self, slot: int) -> None:
        """Ask for a place for the worker of a slot."""
        log = str(Path(self.spec.log).with_name(f"worker-{slot}.log"))
        spec = vars(replace(self.spec, slot=slot, log=log))
        actor = self._host.remote(spec, os.uname().nodename, self.gpus, self.preload)
        self._workers[slot] = _Worker(actor, actor.begin.remote(), time.monotonic())

    def poll(self) -> list[tuple[int, str, int]]:
        """Return (slot, worker id, exit code) of the workers that ended since the last call.

        Raises:
            UsageError: a machine lacks what a worker needs, or no worker has found a place in time.
        """
        problem = self._settle()
        if problem:
            raise UsageError(problem)
        ended = []
        for slot, worker in self._workers.items():
            code = self._code(worker)
            if code is not None:
                ended.append((slot, worker.begun.identity if worker.begun else "", code))
        for slot, _, _ in ended:
            ray.kill(self._workers.pop(slot).actor)
        self._check_waited()
        return ended

    def running(self) -> int:
        """Return how many workers run or wait for a place."""
        return len(self._workers)

    def runs(self, worker: str) -> bool:
        """Tell whether a worker, by its id, is one that this engine runs."""
        return any(each.begun is not None and each.begun.identity == worker for each in self._workers.values())

    def kill(self, worker: str) -> None:
        """End a worker at once."""
        for each in self._workers.values():
            if each.begun is not None and each.begun.identity == worker:
                each.actor.kill.remote()

    def signal(self, value: int) -> None:
        """Tell all workers: 1 hand back and end, 2 the budget is spent; those without a place are no longer wanted."""
        self._signal = value
        self._settle()
        self.withdraw()
        for worker in self._workers.values():
            worker.actor.signal.remote(value)

    def withdraw(self) -> list[int]:
        """Ask no longer for the places that were not found yet; return their slots."""
        slots = [slot for slot, worker in self._workers.items() if worker.begun is None]
        for slot in slots:
            ray.kill(self._workers.pop(slot).actor)
        return slots

    def note(self) -> str:
        """Say how many workers wait for a place; empty if none has waited long."""
        waited = [time.monotonic() - each.asked for each in self._workers.values() if each.begun is None]
        if not waited or max(waited) < _PATIENCE_SECONDS:
            return ""
        return f"{len(waited)} of {len(self._workers)} workers wait for a place in the Ray cluster: {self._amounts()}"

    def stop(self, grace_seconds: float) -> None:
        """Ask all workers to end, wait, then kill."""
        if self._signal == 0:
            self.signal(1)
        deadline = time.monotonic() + grace_seconds
        while self._workers and time.monotonic() < deadline:
            time.sleep(0.05)
            self.poll()
        for worker in self._workers.values():
            ray.wait([worker.actor.kill.remote()], timeout=5.0)
            ray.kill(worker.actor)
        self._workers.clear()

    def _settle(self) -> str:
        """Take note of the workers that have found a place; return why one of them cannot be there."""
        for slot, worker in list(self._workers.items()):
            if worker.begun is None and worker.lost is None and _is_there(worker.answer):
                try:
                    begun: Begun = ray.get(worker.answer)
                except RayError as error:
                    worker.lost = time.monotonic()
                    logging.getLogger("ehrfusion").warning("worker %d could not begin: %s", slot, _one_line(error))
                    continue
                if begun.problem:
                    ray.kill(self._workers.pop(slot).actor)
                    return begun.problem
                worker.begun, worker.answer = begun, worker.actor.poll.remote()
        return ""

    def _code(self, worker: _Worker) -> int | None:
        """Return how a worker ended, None while it runs or waits for a place."""
        if worker.begun is None:
            return None if worker.lost is None else 1
        if worker.lost is None:
            if not _is_there(worker.answer):
                return None
            try:
                code: int | None = ray.get(worker.answer)
            except ActorUnavailableError:  # the network's fault, for now
                code = None
            except RayActorError:
                worker.lost = time.monotonic()
            if worker.lost is None:
                worker.answer = worker.actor.poll.remote()
                return code
        if lives(worker.begun.identity) and time.monotonic() - worker.lost < _FAREWELL_SECONDS:
            return None  # it may be handing back its trial, and nobody else must do so at the same time
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return 1 if worker.begun.node in alive else TAKEN

    def _check_waited(self) -> None:
        """Let no search wait for ever for a place that the cluster does not have."""
        waiting = [time.monotonic() - each.asked for each in self._workers.values() if each.begun is None]
        if waiting and len(waiting) == len(self._workers) and max(waiting) > self.placement_seconds:
            raise UsageError(
                f"no worker has found a place in the Ray cluster for {self.placement_seconds:g} s: {self._amounts()}"
            )

    def _needs(self) -> dict[str, float]:
        return {"CPU": self.cpus, "GPU": self.gpus or 0.0}

    def _amounts(self) -> str:
        has = ray.cluster_resources()
        parts = [
            f"{each:g} {name} (the cluster has {has.get(name, 0):g})" for name, each in self._needs().items() if each
        ]
        return f"each takes {' and '.join(parts)}"


def _is_there(reference: Any) -> bool:
    return bool(ray.wait([reference], timeout=0)[0])


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
