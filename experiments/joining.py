"""A worker started by hand, anywhere: it begins the study or joins it, and needs no driver."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from experiments.beginning import begun, prepare_study
from experiments.config import StudyConfig
from experiments.engines import worker_study
from experiments.objective import make_objective
from experiments.supernet import warm_start
from experiments.worker import limit_threads
from fusion import UsageError
from search.identity import worker_id
from search.joining import take_part
from search.storage import STORAGE_ERRORS, close_study, storage_failed
from search.study import open_study, summary


@dataclass(frozen=True)
class Shift:
    """How a worker ended, and how the study's trials stood then."""

    name: str
    asked: bool
    counts: dict[str, int]

    def render(self) -> str:
        """Return what to tell the user."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        why = "asked to end; what it had begun is handed back" if self.asked else "nothing is left to do here"
        return f"{self.name}: {why} ({counts})"


def run_worker(config: StudyConfig, *, slot: int | None = None) -> Shift:
    """Take part in a study until nothing is left to do, or this process is asked to end.

    Whoever comes first creates the study. SIGTERM, SIGUSR2 and Ctrl-C let it hand back its trial.

    Args:
        slot: sets this worker's dice apart from those of the others; without it, it draws one.

    Raises:
        UsageError: the budget or the pruner needs a driver, or what `run_search` raises.
        Poisoned: the GPU context of this process is lost; another process must take its place.
    """
    _check_driverless(config)
    asked = threading.Event()
    prepared = prepare_study(config)
    with begun(config, prepared) as study:
        warm_start(config, study, prepared.space, prepared.store, progress=False)
    spec, identity = worker_study(config, study), worker_id(os.getpid(), uuid.uuid4().hex[:8])
    close_study(study)
    if "OMP_NUM_THREADS" not in os.environ:
        limit_threads()
    objective = make_objective(config.model_dump(mode="json"))
    study = open_study(spec, slot=int.from_bytes(os.urandom(4)) if slot is None else slot)

    def stop() -> str:
        return "interrupt" if asked.is_set() else ""

    try:
        with _listening(asked):
            take_part(study, spec, prepared.space, objective, identity, stop)
        return Shift(config.name, asked.is_set(), summary(study.get_trials(deepcopy=False)))
    except STORAGE_ERRORS as error:
        raise UsageError(storage_failed(spec.storage, error)) from None
    finally:
        close_study(study)


def _check_driverless(config: StudyConfig) -> None:
    """Refuse what no worker can decide alone.

    Raises:
        UsageError: with what to do instead.
    """
    if config.search.seconds is not None:
        raise UsageError(
            "search.seconds is a clock that `ehrfusion search` keeps; for workers give trials, epochs or flops"
        )
    if config.search.pruner == "pausing":
        raise UsageError(
            "`ehrfusion search` decides who goes on after a pause; for workers take pruner halving or none"
        )


@contextmanager
def _listening(asked: threading.Event) -> Iterator[None]:
    """Note a request to end instead of dying of it; batch systems send it before they kill."""
    numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
