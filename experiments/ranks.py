"""The processes of one trial, each with a device and a part of every batch; how they talk is Lightning Fabric's.

Gradients are summed once a batch, after the backward pass, and not by hooks within it: so a process whose memory is
full can go through its part in smaller parts, and one whose patients all lack a modality simply adds nothing to the
gradients of that encoder.

Reference:
    Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, 2020 (here without overlap of
    computing and sending).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric.accelerators import CPUAccelerator, CUDAAccelerator
from lightning_fabric.plugins.environments import ClusterEnvironment
from lightning_fabric.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from experiments.gradients import Learned, mean_confidence


class Seat(NamedTuple):
    """One process of a trial: its rank, counted from 0, of how many, and the port where they meet on this machine."""

    rank: int
    world: int
    port: int


class RankLost(RuntimeError):
    """Another process of the trial is gone."""


def leave() -> None:
    """Part from the other processes of a trial, if this one has met them."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class Ranks:
    """What a process does together with the others of its trial; every process must do the same in the same order."""

    def __init__(self, place: Seat, device: torch.device) -> None:
        self.rank, self.world = place.rank, place.world
        gpu = device.type == "cuda"
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        if Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine, and nobody else need listen
        self.strategy = DDPStrategy(
            accelerator=CUDAAccelerator() if gpu else CPUAccelerator(),
            parallel_devices=[torch.device("cuda", i) if gpu else device for i in range(place.world)],
            cluster_environment=_Machine(place),
            process_group_backend="cpu:gloo,cuda:nccl" if gpu else "gloo",
            # the first may have to wait for a storage, and ends the others; none of them is to give up before
            timeout=timedelta(minutes=10) if place.rank == 0 else timedelta(days=7),
        )
        self.strategy.setup_environment()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all, by rank.

        Raises:
            RankLost: one of them is gone.
        """
        found: list[Any] = [None] * self.world
        try:
            distributed.all_gather_object(found, value)
        except RuntimeError as error:
            raise RankLost(str(error).splitlines()[0]) from None
        return found

    def agree(self, state: Iterable[Tensor]) -> None:
        """Give all processes the first one's numbers, in place."""
        for each in state:
            distributed.broadcast(each.detach(), 0)

    def own(self, patients: int) -> int:
        """Return how many of a batch's patients are this process's: every so many-th, so that all have like lengths."""
        return len(range(self.rank, patients, self.world))

    def merge(self, found: Learned, patients: int, parameters: Sequence[nn.Parameter]) -> Learned:
        """Make gradients and losses, means over this process's patients, means over all of a batch's.

        A parameter that has a gradient in no process is left without one, as in a single process.
        """
        own = self.own(patients)
        losses = {name: float(value) for name, value in found.losses.items()}
        have = [each.grad is not None for each in parameters]
        parts = self.gather((own, losses, found.confidence, have))
        trained = [each for each, *some in zip(parameters, *(part[3] for part in parts), strict=True) if any(some)]
        self._sum_gradients(trained, own / patients)
        like, names = next(iter(found.losses.values())), dict.fromkeys(name for part in parts for name in part[1])
        means = {name: sum(count * each.get(name, 0.0) for count, each, *_ in parts) / patients for name in names}
        merged = {name: like.new_tensor(mean) for name, mean in means.items()}
        return Learned(merged, mean_confidence([(count, sure) for count, _, sure, _ in parts if count]))

    def _sum_gradients(self, parameters: Sequence[nn.Parameter], share: float) -> None:
        """Replace gradients by the sum over all processes of each one's share of them, in one message."""
        if not parameters:
            return
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
        total = torch.cat([each.flatten() for each in gradients]).mul_(share)
        self.strategy.all_reduce(total, reduce_op="sum")  # in place
        for each, part in zip(parameters, total.split([each.numel() for each in parameters]), strict=True):
            each.grad = part.view_as(each).to(each.dtype)

    def average_statistics(self, model: nn.Module) -> None:
        """Average what batch normalisation has seen; within a batch it sees the patients of its own process."""
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                for seen in (module.running_mean, module.running_var):
                    if seen is not None:
                        self.strategy.all_reduce(seen, reduce_op="mean")

    def part(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of some rows."""
        return rows[self.rank :: self.world]

    def whole(self, found: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        """Put together what all processes found for their `part` of so many rows. Shape: (n, ...) -> (rows, ...)."""
        whole = np.empty((rows, *found.shape[1:]), found.dtype)
        for rank, part in enumerate(self.gather(found)):
            whole[rank :: self.world] = part
        return whole


class _Machine(ClusterEnvironment):  # type: ignore[misc]  # Fabric is optional, so that its types are not known
    """Tells Fabric that its processes are here already, which is all it wants to know."""

    def __init__(self, place: Seat) -> None:
        super().__init__()
        self.place = place

    creates_processes_externally = True
    main_address = "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self.place.port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.place.world

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.place.rank

    def node_rank(self) -> int:
        return 0
