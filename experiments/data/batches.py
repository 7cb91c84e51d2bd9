"""Batches of rows of similar length, without per-sample objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BUCKET = 8  # batches whose rows are sorted by length together


class Feed(Protocol):
    """Something that gathers cohort rows of one modality."""

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of items of each row. Shape: (B,) -> (B,)."""
        ...

    def collate(self, rows: Tensor) -> Any:
        """Gather rows (B,) into Inputs."""
        ...


class Batch(NamedTuple):
    """Inputs by modality, targets and cohort row numbers of B patients; `patients` is B, or more where it is a part.

    Shape:
        target (B,) or (B, K); rows (B,).
    """

    inputs: dict[str, Any]
    target: Tensor
    rows: Tensor
    patients: int


def iterate_batches(
    feeds: Mapping[str, Feed],
    targets: NDArray[Any],
    rows: NDArray[np.int64],
    batch_size: int,
    *,
    shuffle: int | None,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield every row once, in batches of similar total length.

    Args:
        shuffle: a seed: rows are shuffled, sorted by length inside buckets of a few batches, and the batches
            shuffled; None sorts all rows by length, for evaluation.
        part: (rank, world): of each batch every world-th patient only, from this rank on. Where that is nobody it is
            the batch's first, so that all ranks have something to go through; it must not count.
    """
    order = torch.as_tensor(rows, dtype=torch.int64)
    lengths = torch.stack([feed.lengths(order) for feed in feeds.values()]).sum(0)
    truth = torch.from_numpy(targets)
    for places in _plan(lengths, batch_size, shuffle):
        rank, world = part
        chosen = order[places if world == 1 else places[rank::world] if rank < len(places) else places[:1]]
        inputs = {name: feed.collate(chosen) for name, feed in feeds.items()}
        yield Batch(inputs, truth[chosen], chosen, len(places))


def _plan(lengths: Tensor, batch_size: int, shuffle: int | None) -> list[Tensor]:
    """Return the positions of each batch."""
    if not len(lengths):
        return []
    if shuffle is None:
        return list(lengths.argsort(stable=True).split(batch_size))
    generator = torch.Generator().manual_seed(shuffle)
    mixed = torch.randperm(len(lengths), generator=generator)
    batches: list[Tensor] = []
    for bucket in mixed.split(batch_size * _BUCKET):
        batches += bucket[lengths[bucket].argsort(stable=True)].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator)]
