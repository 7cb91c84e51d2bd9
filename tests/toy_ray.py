"""A stand-in for Ray: actors in this process, on nodes that tests take away; the engine uses no more than is here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class Cluster:
    """Nodes with a CPU each; an actor takes one, or waits."""

    def __init__(self, nodes: int) -> None:
        self.nodes = {f"node-{i}": True for i in range(nodes)}
        self.actors: list[Actor] = []

    def place(self, actor: Actor) -> None:
        """Find a node for an actor."""
        taken = {each.node for each in self.actors if each.alive}
        free = [name for name, alive in self.nodes.items() if alive and name not in taken]
        if actor.node is None and actor.cpus <= 1 and free:
            actor.node = free[0]

    def remove(self, node: str) -> None:
        """Take a node away, with what runs on it."""
        self.nodes[node] = False
        for each in self.actors:
            if each.node == node:
                each.alive = False


class Actor:
    """An actor whose methods run when their answer is asked for."""

    def __init__(self, cluster: Cluster, cpus: float, make: Callable[[], Any]) -> None:
        self.cluster, self.cpus, self.make = cluster, cpus, make
        self.node: str | None = None
        self.alive, self.held = True, None

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: Answer(self, name, arguments).at_once())


class Answer:
    def __init__(self, actor: Actor, name: str, arguments: tuple[Any, ...]) -> None:
        self.actor, self.name, self.arguments = actor, name, arguments
        self.value: Any = None
        self.done = False

    def at_once(self) -> Answer:
        """Run now what is only told, as nobody asks for its answer."""
        if self.name in ("signal", "kill"):
            self.is_there()
        return self

    def is_there(self) -> bool:
        actor = self.actor
        if actor.alive and not self.done:
            actor.cluster.place(actor)
            if actor.node is None:
                return False
            actor.held = actor.held or actor.make()
            self.value, self.done = getattr(actor.held, self.name)(*self.arguments), True
        return True

    def get(self) -> Any:
        if not self.done:
            raise RayActorError("the actor died")
        return self.value


def stand_in(cluster: Cluster) -> dict[str, ModuleType]:
    """Return modules that pass for Ray's."""
    ray, exceptions = ModuleType("ray"), ModuleType("ray.exceptions")
    for each in (RayError, RayActorError, ActorUnavailableError):
        setattr(exceptions, each.__name__, each)

    def remote(**options: Any) -> Any:
        def wrap(kind: type) -> Any:
            def create(*arguments: Any) -> Actor:
                cluster.actors.append(Actor(cluster, options["num_cpus"], lambda: kind(*arguments)))
                return cluster.actors[-1]

            return SimpleNamespace(remote=create)

        return wrap

    def kill(actor: Actor) -> None:
        actor.alive = False

    parts: dict[str, Any] = {
        "exceptions": exceptions,
        "remote": remote,
        "kill": kill,
        "get": lambda answer: answer.get(),
        "wait": lambda answers, **_: ([each for each in answers if each.is_there()], []),
        "nodes": lambda: [
            {"NodeID": name, "Alive": alive, "NodeManagerHostname": "here"} for name, alive in cluster.nodes.items()
        ],
        "cluster_resources": lambda: {"CPU": float(sum(cluster.nodes.values()))},
        "is_initialized": lambda: True,
        "get_runtime_context": lambda: SimpleNamespace(
            get_node_id=lambda: next(each.node for each in reversed(cluster.actors) if each.alive and each.node)
        ),
    }
    for name, part in parts.items():
        setattr(ray, name, part)
    return {"ray": ray, "ray.exceptions": exceptions}


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """Two nodes, known to the engine as a cluster of Ray."""
    ours = ("experiments.ray_engine", "experiments.ray_host")
    known = {name: sys.modules.pop(name, None) for name in (*ours, "ray", "ray.exceptions")}
    cluster = Cluster(2)
    sys.modules.update(stand_in(cluster))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")  # an actor sets it in its process, which here is ours
            yield cluster
    finally:
        for name, module in known.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
