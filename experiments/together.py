"""One trial on several devices: this process leads, and others, started for the trial, follow it step by step.

The leader alone reports, writes checkpoints and hears whether to stop; when it is done with the trial, for whatever
reason, the others end.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import torch

from experiments.config import TrainingConfig
from experiments.worker import when_gone
from fusion import UsageError
from search.failures import OUT_OF_MEMORY, failure_text

if TYPE_CHECKING:
    from experiments.ranks import Ranks, Seat

_FAREWELL_SECONDS = 30.0


def check_library(training: TrainingConfig) -> None:
    """Refuse several devices where what they talk by is not installed.

    Raises:
        UsageError: it is not.
    """
    if training.devices > 1 and importlib.util.find_spec("lightning_fabric") is None:
        raise UsageError("training.devices above 1 needs Lightning Fabric: pip install 'ehrfusion[devices]'")


def check_devices(training: TrainingConfig, device: torch.device) -> None:
    """Refuse more devices than there are.

    Raises:
        UsageError: there are fewer, or what they talk by is not installed.
    """
    check_library(training)
    found = torch.cuda.device_count() if device.type == "cuda" else training.devices
    if found < training.devices:
        raise UsageError(f"training.devices is {training.devices}, and this process has {found} GPUs")


@contextmanager
def together(device: torch.device, job: Mapping[str, Any], place: Seat | None) -> Iterator[Ranks | None]:
    """Join the processes of a trial: start the others as its leader, or take a place that was given.

    Args:
        job: what `train` is called with.

    Raises:
        RuntimeError, MemoryError: another process of the trial failed; the reason is its own.
    """
    training: TrainingConfig = job["training"]
    if training.devices == 1:
        yield None
        return
    from experiments.ranks import RankLost, Ranks, Seat, leave

    followers = [] if place is not None else _start(training.devices, job)
    place = place or Seat(0, training.devices, followers[0][2])
    try:
        ranks = Ranks(place, device)
        yield ranks
        for process, *_ in followers:
            process.join(_FAREWELL_SECONDS)
    except RankLost:
        reason = _reason(followers)
        raise (MemoryError if reason == OUT_OF_MEMORY else RuntimeError)(reason) from None
    finally:
        for process, *_ in followers:
            process.kill()
            process.join()
        leave()


def _start(devices: int, job: Mapping[str, Any]) -> list[tuple[Any, Connection, int]]:
    """Start all but the first process of a trial; return each with where its failure is told, and the port."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["experiments.train"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    found = []
    for rank in range(1, devices):
        mine, theirs = context.Pipe(duplex=False)
        about = (rank, devices, port, os.getpid(), torch.get_num_threads(), theirs, dict(job))
        process = context.Process(target=_follow, args=about, daemon=True)
        process.start()
        theirs.close()
        found.append((process, mine, port))
    return found


def _follow(
    rank: int, devices: int, port: int, leader: int, threads: int, told: Connection, job: dict[str, Any]
) -> None:
    """Be a process of a trial other than the first: train as it does, and tell it why if that fails."""
    from experiments.data.store import Store
    from experiments.ranks import RankLost, Seat
    from experiments.train import train

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the leader decides when the trial ends
    when_gone(leader, lambda: os._exit(1))
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(rank)
    job["store"] = Store(*job["store"])
    try:
        train(**job, place=Seat(rank, devices, port))
    except RankLost:
        pass
    except Exception as error:
        told.send(failure_text(error))


def _reason(followers: list[tuple[Any, Connection, int]]) -> str:
    """Return why the first of the others failed that said so; one that was killed cannot."""
    for _, told, _ in followers:
        with suppress(EOFError):
            if told.poll(1.0):
                return str(told.recv())
    return "another process of the trial is gone"
