"""Which share of the machine's fp32 matrix-multiplication peak training reaches: python benchmarks/gemm_share.py.

The model has four modalities: transformers of two layers over codes and notes, a convolutional network over images,
attention over ancestors in the graph, cross-attention fusion. Operations of a whole training step, forward and
backward, are counted by torch (matrix products, convolutions and attention; everything else counts as nothing), and
divided by the processor time of the step with its optimizer. The peak is the best of matrix products of several sizes
on the same thread in the same run, measured before and after. `--profile` shows where the time goes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.config import parse_config
from experiments.data.batches import Batch, iterate_batches
from experiments.feeding import build_model, preparations
from experiments.workspace import open_store
from fusion import Architecture, Criterion, FusionModel, Spec


def peak(rounds: int = 8) -> float:
    """Return the best operations a second of large fp32 matrix products."""
    best = 0.0
    for size in (512, 1024, 2048):
        a, b = torch.randn(size, size), torch.randn(size, size)
        for _ in range(rounds):
            start = time.process_time()
            torch.mm(a, b)
            best = max(best, 2 * size**3 / (time.process_time() - start))
    return best


def architecture(dim: int, layers: int) -> Architecture:
    """Return the model that is measured."""
    blocks = {"layers": layers, "heads": 4}
    encoders = {
        "codes": Spec("transformer", blocks),
        "notes": Spec("transformer", {**blocks, "stride": 1}),
        "images": Spec("conv", {"width": 32}),
        "graph": Spec("ancestors"),
    }
    return Architecture(encoders, Spec("cross_attention", {"layers": 2}), dim)


def load(given: argparse.Namespace) -> tuple[FusionModel, Criterion, list[Batch]]:
    """Return the model and some batches of synthetic patients."""
    preprocess = {"codes": {"max_events": 128}, "notes": {"max_tokens": 128}, "images": {"size": 64, "max_images": 1}}
    data = {"folder": str(given.runs / "gemm-data"), "synthetic": {"patients": 1000}, "preprocess": preprocess}
    config = parse_config(
        {"name": "gemm", "runs": str(given.runs), "data": data, "model": {"encoders": {"codes": "bag"}}}
    )
    store, spec = open_store(config), architecture(given.dim, given.layers)
    plans = preparations(spec, preprocess)
    store.prepare(list(plans.values()))
    feeds = {name: store.source(plan) for name, plan in plans.items()}
    torch.manual_seed(0)
    model = build_model(spec, {name: feed.preprocessor for name, feed in feeds.items()}, store.task.outputs)
    rows = store.cohort.rows("train")
    batches = list(iterate_batches(feeds, store.cohort.targets, rows, given.batch_size, shuffle=0))
    return model, Criterion(store.task), [batch for batch in batches if len(batch.rows) == given.batch_size]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--profile", action="store_true")
    for name, value in (("dim", 128), ("layers", 2), ("batch-size", 64), ("steps", 12)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, criterion, batches = load(given)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        criterion(model(batch.inputs), batch.target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    step(batches[0])
    before, shares, counted = peak(), [], []
    for turn in range(given.steps):
        batch = batches[turn % len(batches)]
        with FlopCounterMode(display=False) as counter:
            criterion(model(batch.inputs), batch.target).backward()
        start = time.process_time()
        step(batch)
        counted.append(counter.get_total_flops())
        shares.append(counted[-1] / (time.process_time() - start))
    best = max(before, peak())
    reached = statistics.median(shares)
    print(
        print(
            f"width {given.dim}, {given.layers} layers, batch {given.batch_size}, torch {torch.__version__}, one thread"
        )
    )
    print(f"peak of matrix products: {best / 1e9:.1f} GFLOP/s; a step: {statistics.median(counted) / 1e9:.2f} GFLOP")
    print(f"training: {reached / 1e9:.1f} GFLOP/s, {reached / best:.0%} of the peak (wanted 20%)")
    if given.profile:
        with torch.profiler.profile() as profile:
            for batch in batches[:6]:
                step(batch)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))


if __name__ == "__main__":
    main()
