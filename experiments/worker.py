"""One worker process: one device, one loop of trials, until there is nothing left to do or somebody says stop."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from search.identity import worker_id

POISONED = 75
"""The exit code of a worker whose GPU context is lost."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is told: the study, how to make its objective and space, and its place. Plain JSON data.

    `needs` are paths that must be there, `devices` how many GPUs (or processes on CPUs) a trial takes, and `threads`
    how many torch uses.
    """

    study: dict[str, Any]
    objective: str
    space: str
    settings: dict[str, Any]
    slot: int
    log: str
    driver: int
    environment: dict[str, str] = field(default_factory=dict)
    needs: Sequence[str] = ()
    devices: int = 1
    threads: int = 1

    def to_json(self) -> str:
        """Return the text a process is started with."""
        return json.dumps(asdict(self))


def work(text: str, nonce: str, signals: Any) -> None:
    """Be a worker: called in a new process.

    Args:
        text: a `WorkerSpec` as JSON.
        nonce: the random part of this worker's id, given by the driver.
        signals: a shared integer: 0 go on, 1 hand back and end, 2 the budget is spent.
    """
    spec = WorkerSpec(**json.loads(text))
    os.environ.update(spec.environment)
    _log_to(Path(spec.log))
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: asked.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides what it means
    when_gone(spec.driver, asked.set)
    limit_threads(spec.threads)
    from search.failures import Poisoned
    from search.study import StudySpec, open_study, worker_loop

    study_spec = StudySpec(**spec.study)

    def stop() -> str:
        if signals.value == 2:
            return "budget"
        return "interrupt" if asked.is_set() or signals.value == 1 else ""

    objective = _load(spec.objective)(spec.settings)
    space = _load(spec.space)(spec.settings)
    study = open_study(study_spec, slot=spec.slot)
    try:
        worker_loop(study, study_spec, space, objective, worker_id(os.getpid(), nonce), stop)
    except Poisoned as why:
        print(f"this process can run no more trials ({why}); another takes its place", file=sys.stderr)  # noqa: T201
        sys.exit(POISONED)


def _load(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def limit_threads(threads: int = 1) -> None:
    """Use one torch thread if not told otherwise: two processes of two threads each are slower than two of one."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def when_gone(driver: int, act: Callable[[], object]) -> None:
    """Act when another process is gone, from a thread of its own, so that no worker outlives its driver."""

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            watched = psutil.Process(driver)
            while watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1.0)
        act()

    threading.Thread(target=watch, daemon=True).start()


def _log_to(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno() if stream is not None else 1)
