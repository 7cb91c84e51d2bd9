"""Runs of one structure trained together against one after the other: python benchmarks/stacked.py.

The runs differ in seed, learning rate, weight decay and dropout and share an order of batches; both ways do all that
training does (batches, steps, scoring the tuning split), take turns in one process on one thread, and end with the same
weights up to float error, which is printed. Counted is processor time, because a machine may have other work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from experiments.config import TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.stackable import Member
from experiments.stacked import train_stacked
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture, Spec


def make_members(notes: str, fusion: str, dim: int, count: int, epochs: int) -> list[Member]:
    """Return runs of one structure that differ in all that may differ."""
    found = []
    for i in range(count):
        dropout = {"dropout": 0.1 + 0.3 * i / count}
        encoders = {"codes": Spec("bag", dropout), "notes": Spec(notes, dropout)}
        training = TrainingConfig(
            epochs=epochs, patience=epochs, lr=5e-4 * (1 + i), weight_decay=1e-3 * (1 + i), batch_order=0
        )
        found.append(Member(Architecture(encoders, Spec(fusion, dropout), dim), training, i))
    return found


def difference(alone: list[Fit], together: list[Fit]) -> float:
    """Return the largest difference of a weight between runs trained alone and together."""
    pairs = [pair for a, b in zip(alone, together, strict=True) for pair in zip(weights(a), weights(b), strict=True)]
    return max(float((first - second).abs().max()) for first, second in pairs)


def weights(fit: Fit) -> list[torch.Tensor]:
    """Return what a run learned."""
    return [each.detach() for each in fit.model.parameters()]


def measure(store: Store, members: list[Member], rounds: int) -> tuple[float, float]:
    """Return how many times as long one after the other takes, and the largest difference of a weight."""
    preprocess, ratios, apart = store.config.preprocess, [], 0.0
    for _ in range(rounds + 1):
        start = time.process_time()
        alone = [train(each.architecture, store, each.training, each.seed, preprocess=preprocess) for each in members]
        middle = time.process_time()
        together = [fit for fit in train_stacked(members, store, preprocess=preprocess) if isinstance(fit, Fit)]
        ratios.append((middle - start) / (time.process_time() - middle))
        apart = max(apart, difference(alone, together))
    return statistics.median(ratios[1:]), apart  # the first round warms up


def main() -> None:
    """Print the ratio for some structures, widths and numbers of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    for name, value in (("patients", 2000), ("epochs", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    preprocess = {"codes": {"max_events": 96}, "notes": {"max_tokens": 96}}
    folder = str(given.runs / f"stacked-{given.patients}")
    data = {"folder": folder, "synthetic": {"patients": given.patients}, "preprocess": preprocess}
    model = {"encoders": {"codes": "bag"}}
    store = open_store(parse_config({"name": "stacked", "runs": str(given.runs), "data": data, "model": model}))
    found = []
    for notes, fusion, dim, count in (
        ("bag", "early", 16, 4),
        ("bag", "early", 16, 8),
        ("bag", "early", 32, 4),
        ("bag", "early", 32, 8),
        ("bag", "late", 32, 8),
        ("tfidf", "sum", 32, 8),
        ("bag", "early", 64, 8),
    ):
        ratio, apart = measure(store, make_members(notes, fusion, dim, count, given.epochs), given.rounds)
        found.append(ratio)
        what = f"codes bag + notes {notes}, {fusion}, width {dim}, {count} runs"
        print(f"{what}: {ratio:.2f}x, weights differ by at most {apart:.0e}", flush=True)
    print(f"one after the other / together, median of these: {statistics.median(found):.2f}x (wanted 1.4x)")


if __name__ == "__main__":
    main()
