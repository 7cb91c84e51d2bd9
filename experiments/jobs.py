"""Independent training jobs side by side in long-lived processes, one torch thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

from experiments.progress import progress_bar
from experiments.slots import slot_environment, visible_gpus
from experiments.worker import when_gone
from search.failures import failure_text

T = TypeVar("T")


@dataclass(frozen=True)
class JobFailure:
    """A job that raised, or whose process died, and why in one line."""

    reason: str


def run_jobs(
    function: Callable[[dict[str, Any]], T],
    settings: Sequence[dict[str, Any]],
    workers: int,
    label: str,
    progress: bool = True,
) -> list[T | JobFailure]:
    """Call a module-level function with each settings mapping and return results in order; failures do not spread.

    A process that dies takes the pool with it: the jobs that had not finished are tried once more, one at a time in
    fresh pools, so that the one that kills is found and the others finish.
    """
    if not settings:
        return []
    results: list[T | JobFailure] = [JobFailure("did not run")] * len(settings)
    with progress_bar(label, len(settings), enabled=progress) as advance:
        broken = _round(function, settings, list(range(len(settings))), workers, results, advance)
        for index in broken:
            for _ in _round(function, settings, [index], 1, results, advance):
                results[index] = JobFailure("its process died")
                advance()
    return results


def _round(
    function: Callable[[dict[str, Any]], T],
    settings: Sequence[dict[str, Any]],
    indices: list[int],
    workers: int,
    results: list[T | JobFailure],
    advance: Callable[[], None],
) -> list[int]:
    """Run some jobs in one pool and return those that a dying process took with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.train"])
    broken: list[int] = []
    given = (visible_gpus(), context.Value("i", 0), os.getpid(), max(map(_devices, settings)))
    with ProcessPoolExecutor(min(workers, len(indices)), context, initializer=_settle, initargs=given) as pool:
        futures: dict[Future[T], int] = {pool.submit(function, settings[index]): index for index in indices}
        for future in as_completed(futures):
            index = futures[future]
            try:
                results[index] = future.result()
            except BrokenProcessPool:
                broken.append(index)
                continue
            except Exception as error:  # any failure of one job is that job's result
                results[index] = JobFailure(failure_text(error))
            advance()
    return sorted(broken)


def _devices(settings: dict[str, Any]) -> int:
    """Return how many devices a job takes: what the configuration among its settings says, if there is one."""
    return int(settings.get("config", {}).get("training", {}).get("devices", 1))


def _settle(gpus: Sequence[str], settled: Any, driver: int, devices: int = 1) -> None:
    """Give a new process its GPUs, in turns with the others of its pool, or else one torch thread.

    It ends with its driver: a pool whose driver is killed would wait for jobs for ever.
    """
    when_gone(driver, lambda: os._exit(1))
    with settled.get_lock():
        slot = settled.value
        settled.value += 1
    os.environ.update(slot_environment(slot, gpus, devices))
    import torch

    torch.set_num_threads(1)
