"""Engines start workers somewhere and say how they are; the local one starts processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from experiments.slots import default_workers, slot_environment, visible_gpus
from experiments.worker import WorkerSpec, work
from search.identity import lives, worker_id

TAKEN = 76
"""What an engine gives for the exit code of a worker whose machine was taken away: its trial is not to blame."""


class Engine(Protocol):
    """Starts workers somewhere and says how they are."""

    def places(self) -> int:
        """Return how many workers there is room for."""
        ...

    def start(self, slot: int) -> object:
        """Start the worker of a slot, as soon as there is a place for it."""
        ...

    def poll(self) -> list[tuple[int, str, int]]:
        """Return (slot, worker id, exit code) of the workers that ended since the last call."""
        ...

    def running(self) -> int:
        """Return how many workers run or wait for a place."""
        ...

    def runs(self, worker: str) -> bool:
        """Tell whether a worker, by its id, is one that this engine runs."""
        ...

    def kill(self, worker: str) -> None:
        """End a worker at once."""
        ...

    def signal(self, value: int) -> None:
        """Tell all workers: 1 hand back and end, 2 the budget is spent."""
        ...

    def withdraw(self) -> list[int]:
        """Ask no longer for the places that were not found yet; return their slots."""
        ...

    def note(self) -> str:
        """Say what hinders the workers; empty if nothing."""
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

    def places(self) -> int:
        """Return how many workers there is room for: one a GPU, or one a core where there is no GPU."""
        return default_workers(self.spec.devices)

    def start(self, slot: int) -> str:
        """Start the worker of a slot and return its id."""
        environment = slot_environment(slot, self._gpus, self.spec.devices) | self.spec.environment
        log = Path(self.spec.log).with_name(f"worker-{slot}.log")
        spec = replace(self.spec, slot=slot, log=str(log), environment=environment)
        nonce = uuid.uuid4().hex[:8]
        daemon = self.spec.devices == 1  # a daemon may have no processes of its own
        process = self._context.Process(target=work, args=(spec.to_json(), nonce, self._signal), daemon=daemon)
        process.start()
        identity = worker_id(int(process.pid or 0), nonce)
        self._processes[slot] = (identity, process)
        return identity

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

    def runs(self, worker: str) -> bool:
        """Tell whether a worker, by its id, is one that this engine runs."""
        return any(identity == worker for identity, _ in self._processes.values())

    def kill(self, worker: str) -> None:
        """End a worker at once."""
        for identity, process in self._processes.values():
            if identity == worker and lives(identity):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)

    def signal(self, value: int) -> None:
        """Tell all workers: 1 hand back and end, 2 the budget is spent."""
        self._signal.value = value

    def withdraw(self) -> list[int]:
        """Return nothing: every worker finds its place at once."""
        return []

    def note(self) -> str:
        """Return nothing: see `withdraw`."""
        return ""

    def stop(self, grace_seconds: float) -> None:
        """Ask all workers to end, wait, then kill."""
        if self._signal.value == 0:
            self._signal.value = 1
        deadline = time.monotonic() + grace_seconds
        while any(lives(identity) for identity, _ in self._processes.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for identity, process in self._processes.values():
            self.kill(identity)
            process.join()
