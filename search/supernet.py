"""From a trained network of all architectures to one: choices are removed one by one, or single paths are ranked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fusion.autofm import AutoFMSupernet, complete

Score = Callable[[], float]
"""How good the network is as it stands on patients it did not learn from; more is better."""


@dataclass(frozen=True)
class Removal:
    """One choice taken out, and the score that was left without it."""

    gene: str
    choice: Any
    score: float


def prune(
    supernet: AutoFMSupernet,
    score: Score,
    tune: Callable[[], None],
    seed: int,
    *,
    tune_every: int = 8,
    on_removal: Callable[[Removal], None] | None = None,
) -> list[Removal]:
    """Remove choices until every gene has one left.

    A random kind of gene is drawn that has something to decide, then one of its genes; the choice goes whose absence
    leaves the best score. Each candidate is tried alone, with all others in place. The weights are tuned after every
    `tune_every` removals and at the end, so that the architecture that comes out has been trained as it is.

    Reference:
        Cui et al., AutoFM, 2024; Wang et al., Rethinking Architecture Selection in Differentiable NAS, 2021.
    """
    draw, removals = random.Random(seed), list[Removal]()
    while genes := supernet.undecided():
        kind = draw.choice(sorted({_kind(gene, supernet.modalities) for gene in genes}))
        gene = draw.choice([each for each in genes if _kind(each, supernet.modalities) == kind])
        removal = max(_without(supernet, gene, score), key=lambda each: each.score)
        supernet.remove(gene, removal.choice)
        removals.append(removal)
        if on_removal is not None:
            on_removal(removal)
        if len(removals) % tune_every == 0 or not supernet.undecided():
            tune()
    return removals


def random_path(supernet: AutoFMSupernet, draw: random.Random) -> dict[str, Any]:
    """Draw one architecture, every choice of a gene alike; a node that took nothing takes everything."""
    drawn = {gene: draw.choice(names) for gene, names in supernet.left.items()}
    return complete(drawn, supernet.modalities, supernet.vectors)


def best_paths(
    supernet: AutoFMSupernet, score: Score, seed: int, *, paths: int, top: int
) -> list[tuple[float, dict[str, Any]]]:
    """Return the best of some random architectures, each with the shared weights, best first.

    Reference:
        Guo et al., Single Path One-Shot Neural Architecture Search with Uniform Sampling, 2020 (with random instead of
        evolutionary search among paths).
    """
    draw, found = random.Random(seed), dict[str, tuple[float, dict[str, Any]]]()
    for _ in range(paths):
        path = random_path(supernet, draw)
        if repr(path) not in found:
            supernet.path = path
            found[repr(path)] = score(), path
    supernet.path = None
    return sorted(found.values(), key=lambda each: -each[0])[:top]


def _without(supernet: AutoFMSupernet, gene: str, score: Score) -> Iterable[Removal]:
    for choice in supernet.removable(gene):
        with supernet.without(gene, choice):
            yield Removal(gene, choice, score())


def _kind(gene: str, modalities: tuple[str, ...]) -> str:
    """Return which part of the network a gene is in: a modality's chain, the inputs or the merges of nodes."""
    name, _, _ = gene.rpartition("_")
    return name if name in modalities else "inputs" if name else "merges"
