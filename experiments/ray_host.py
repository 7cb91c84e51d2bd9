"""What runs on a machine of a Ray cluster: the actor that holds one worker's process there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ray

from experiments.engine import LocalEngine
from experiments.worker import WorkerSpec

POSTGRESQL = "give search.storage the address of a PostgreSQL database that all machines reach"


class Begun(NamedTuple):
    """Where a worker came to be: its id and its node, or why it cannot be there."""

    identity: str
    node: str
    problem: str


class Host:
    """The actor of one worker: it starts the worker's process on its node and says how it is."""

    def __init__(self, spec: Mapping[str, Any], machine: str, gpus: float, preload: Sequence[str]) -> None:
        if gpus == 0:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray leaves all of the machine's to who asks for none
        self.spec, self.machine = replace(WorkerSpec(**spec), driver=os.getpid()), machine
        self.engine, self.identity = LocalEngine(self.spec, preload=tuple(preload)), ""

    def begin(self) -> Begun:
        """Start the worker, unless this machine lacks what it needs."""
        node = ray.get_runtime_context().get_node_id()
        problem = missing(self.spec, self.machine)
        if problem:
            return Begun("", node, problem)
        self.identity = self.engine.start(self.spec.slot)
        return Begun(self.identity, node, "")

    def poll(self) -> int | None:
        """Return the exit code of the worker, None while it runs."""
        return next((code for _, _, code in self.engine.poll()), None)

    def signal(self, value: int) -> None:
        """Tell the worker: 1 hand back and end, 2 the budget is spent."""
        self.engine.signal(value)

    def kill(self) -> None:
        """End the worker at once."""
        self.engine.kill(self.identity)


def missing(spec: WorkerSpec, machine: str) -> str:
    """Say in a line what this machine lacks to run a worker that `machine` sent; empty if nothing."""
    here = os.uname().nodename
    if is_sqlite(spec.study["storage"]) and here != machine:
        return f"the study's storage is SQLite on {machine}, and a worker was placed on {here}; {POSTGRESQL}"
    for path in spec.needs:
        if not Path(path).exists():
            return f"{here} has no {path}; data and runs must be in folders that all machines of the cluster share"
    return ""


def is_sqlite(storage: str) -> bool:
    """Tell whether a storage is a file of one machine."""
    return storage.startswith("sqlite")
