"""Where a small trial's time goes, arithmetic and the rest: python benchmarks/trial_overhead.py.

A worker runs trials of codes `bag` + notes `bag` + `early` with its database, checkpoints and reports. Processor
seconds of each part are printed as shares of the whole, and those of an epoch, to be compared between two versions of
the code on the same machine.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from optuna import Trial

from experiments import loop, objective, train
from experiments.config import StudyConfig, parse_config
from experiments.data import batches
from experiments.objective import make_objective
from experiments.studies import study_space, study_spec
from search.study import create_or_resume, issue_tickets, open_study, worker_loop
from search.trial import TrialHandle

SPENT: defaultdict[str, float] = defaultdict(float)


def watch(owner: Any, name: str, part: str) -> None:
    """Count the processor time of a function as a part of a trial."""
    inner: Callable[..., Any] = getattr(owner, name)

    def outer(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return inner(*args, **options)
        finally:
            SPENT[part] += time.process_time() - start

    setattr(owner, name, outer)


def watch_all() -> None:
    """Watch the parts of a trial; batches are counted by what gathers them."""
    watch(loop.Run, "step", "steps: forward, backward, optimizer")
    watch(loop.Run, "tune", "scoring the tuning split")
    watch(loop.Run, "save", "checkpoints")
    watch(loop.Run, "record", "keeping the best weights")
    watch(TrialHandle, "report", "reports to the database and pruning")
    watch(train, "build_model", "building the model")
    watch(batches, "_plan", "planning batches")
    if hasattr(objective, "release_memory"):
        watch(objective, "release_memory", "giving memory back")


def main() -> None:
    """Run trials and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    for name, value in (("patients", 2000), ("trials", 6), ("epochs", 10), ("dim", 32)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = parse_config(
        {
            "name": "overhead",
            "runs": str(given.runs),
            "data": {
                "folder": str(given.runs / f"overhead-{given.patients}"),
                "synthetic": {"patients": given.patients},
                "preprocess": {"codes": {"max_events": 96}, "notes": {"max_tokens": 96}},
            },
            "training": {"epochs": given.epochs, "patience": given.epochs},
            "space": {
                "encoders": {"codes": {"bag": {"slots": 1}}, "notes": {"bag": {"pairs": 4096}}},
                "fusion": {"early": {"layers": 2}},
                "dim": given.dim,
                "training": {"lr": {"low": 1e-4, "high": 1e-2, "log": True}},
            },
            "search": {"trials": given.trials + 1, "sampler": "random", "pruner": "none"},
            "tracking": {"enabled": False},
        }
    )
    assert isinstance(config, StudyConfig)
    run, spec = make_objective(config.model_dump(mode="json")), study_spec(config)
    issue_tickets(create_or_resume(spec, {}, fresh=True), given.trials + 1)
    study, space = open_study(spec), study_space(config)

    def warm_up(trial: Trial) -> float | Sequence[float]:
        candidate = space.suggest(trial)
        assert candidate is not None  # this space has no way to choose nothing
        return run(candidate, TrialHandle(trial, 0, lambda: False))

    study.optimize(warm_up, n_trials=1)
    watch_all()
    start = time.process_time()
    worker_loop(study, spec, space, run, "overhead", lambda: "")
    whole = time.process_time() - start
    for part, seconds in sorted(SPENT.items(), key=lambda each: -each[1]):
        print(f"{seconds / whole:6.1%}  {part}")
    print(f"{1 - sum(SPENT.values()) / whole:6.1%}  gathering batches, starting and ending trials, and the rest")
    print(f"{whole / given.trials / given.epochs * 1000:.0f} ms of processor an epoch")


if __name__ == "__main__":
    main()
