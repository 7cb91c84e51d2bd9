"""Does a worker's memory stay flat? One process, many short trials of a varied space: python benchmarks/memory.py.

Resident memory is read after every trial and written as CSV and PNG into the folder of runs. The first quarter of the
trials is warm-up (code is loaded, stores are opened, the allocator grows to its working size); the slope of the rest is
Theil and Sen's, the median over pairs of trials, which single large trials do not move. Flat means that a thousand
trials more would add less than a tenth of what the worker holds.
"""

from __future__ import annotations

import argparse
import csv
import gc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy.stats import theilslopes

from experiments.config import StudyConfig, parse_config
from experiments.objective import make_objective
from experiments.studies import study_space, study_spec
from search.space import Candidate
from search.study import create_or_resume, issue_tickets, open_study, worker_loop
from search.trial import TrialHandle


def settings(runs: Path, trials: int) -> StudyConfig:
    """Return a study of very short trials in which nearly everything varies."""
    study = parse_config(
        {
            "name": "memory",
            "runs": str(runs),
            "data": {
                "folder": str(runs / "memory-data"),
                "synthetic": {"patients": 300, "seed": 0},
                "preprocess": {"codes": {"max_events": 64}, "notes": {"max_tokens": 64}, "images": {"size": 32}},
            },
            "training": {"epochs": 2, "patience": 2, "batch_size": 64, "warmup_steps": 5},
            "space": {
                "encoders": {
                    "codes": ["bag", "gru", "transformer", "retain", "none"],
                    "notes": ["bag", "transformer", "tfidf", "none"],
                    "images": ["conv", "none"],
                    "graph": ["ancestors", "gcn", "gat", "none"],
                },
                "fusion": ["early", "late", "sum", "cross_attention", "bottleneck", "flexmoe", "tensor"],
                "dim": [16, 32, 64],
                "training": {
                    "lr": {"low": 1e-4, "high": 1e-2, "log": True},
                    "modality_dropout": [0.0, 0.3],
                    "average": ["none", "ema"],
                },
            },
            "search": {"trials": trials, "sampler": "random", "pruner": "none"},
            "tracking": {"enabled": False},
        }
    )
    assert isinstance(study, StudyConfig)
    return study


def measure(config: StudyConfig) -> list[float]:
    """Run all trials in this process as a worker does and return resident memory after each, in MB."""
    objective = make_objective(config.model_dump(mode="json"))
    process = psutil.Process()
    found: list[float] = []

    def watched(candidate: Candidate, trial: TrialHandle) -> float | Sequence[float]:
        try:
            return objective(candidate, trial)
        finally:
            found.append(process.memory_info().rss / 2**20)
            if len(found) % 20 == 0:
                print(f"  {len(found):4d} trials: {found[-1]:.0f} MB", flush=True)

    spec = study_spec(config)
    issue_tickets(create_or_resume(spec, {}, fresh=True), config.search.trials or 0)
    worker_loop(open_study(spec), spec, study_space(config), watched, "memory", lambda: "")
    return found


def draw(path: Path, curve: list[float], start: int, slope: float) -> None:
    """Draw memory against trials."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(range(1, len(curve) + 1), curve, lw=1)
    axes.axvline(start, color="0.7", ls="--", lw=1)
    axes.set(xlabel="trials done by one worker", ylabel="resident memory (MB)", ylim=(0, None))
    axes.set_title(f"{slope:+.2f} MB a trial after warm-up")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Measure, write and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    curve = measure(settings(given.runs, given.trials))
    start = len(curve) // 4
    rest = np.array(curve[start:])
    slope, _, low, high = theilslopes(rest)
    with (given.runs / "memory.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("trial", "resident_mb"), *enumerate(curve, 1)])
    draw(given.runs / "memory.png", curve, start, slope)
    gc.collect()
    alive = sum(each.numel() for each in gc.get_objects() if isinstance(each, torch.Tensor))
    share = 1000 * slope / float(np.median(rest))
    print(f"resident: {curve[0]:.0f} MB after one trial, {curve[start]:.0f} after warm-up, {curve[-1]:.0f} at the end")
    print(f"numbers in tensors alive at the end: {alive / 1e6:.2f} million")
    print(f"slope after warm-up: {slope:+.3f} MB a trial (95% interval {low:+.3f} to {high:+.3f})")
    print(f"a thousand more trials: {share:+.0%} of resident memory: {'flat' if share < 0.1 else 'NOT flat'}")


if __name__ == "__main__":
    main()
