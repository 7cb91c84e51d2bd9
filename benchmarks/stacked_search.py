"""A whole search with stacked trials against one trial after the other: python benchmarks/stacked_search.py.

Both searches have the same space, number of trials and epochs, draw at random with the same seed and prune nothing, so
they train equally much; storage, checkpoints and everything else a worker does are included. They take turns in one
process on one thread. Counted is processor time, because a machine may have other work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from experiments.config import StudyConfig, parse_config
from experiments.objective import make_objective
from experiments.studies import study_space, study_spec
from experiments.workspace import open_store
from search.study import create_or_resume, issue_tickets, open_study, summary, worker_loop


def study(given: argparse.Namespace, stack: int) -> StudyConfig:
    """Return a study of small models of one structure."""
    dropout = {"low": 0.1, "high": 0.4}
    found = parse_config(
        {
            "name": f"stack-{stack}",
            "runs": str(given.runs),
            "data": {
                "folder": str(given.runs / f"stacked-{given.patients}"),
                "synthetic": {"patients": given.patients},
                "preprocess": {"codes": {"max_events": 96}, "notes": {"max_tokens": 96}},
            },
            "training": {"epochs": given.epochs, "patience": given.epochs, "batch_order": 0},
            "space": {
                "encoders": {"codes": {"bag": {"dropout": dropout}}, "notes": {"bag": {"dropout": dropout}}},
                "fusion": {"early": {"dropout": dropout}},
                "dim": given.dim,
                "training": {"lr": {"low": 5e-4, "high": 5e-3, "log": True}},
            },
            "search": {"trials": given.trials, "sampler": "random", "pruner": "none", "stack": stack},
            "tracking": {"enabled": False},
        }
    )
    assert isinstance(found, StudyConfig)
    return found


def seconds(config: StudyConfig) -> float:
    """Run a search in this process from nothing; return its processor time."""
    spec, objective = study_spec(config), make_objective(config.model_dump(mode="json"))
    issue_tickets(create_or_resume(spec, {}, fresh=True), config.search.trials or 0)
    running, start = open_study(spec), time.process_time()
    worker_loop(running, spec, study_space(config), objective, "benchmark", lambda: "")
    taken = time.process_time() - start
    counts = summary(running.get_trials(deepcopy=False))
    if counts["complete"] != config.search.trials:
        raise RuntimeError(f"not every trial finished: {counts}")
    return taken


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--stack", type=int, default=8)
    for name, value in (("patients", 2000), ("epochs", 4), ("trials", 16), ("dim", 32), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plain, stacked = study(given, 1), study(given, given.stack)
    store = open_store(plain)
    ratios = []
    for _ in range(given.rounds + 1):
        alone, together = seconds(plain), seconds(stacked)
        ratios.append(alone / together)
        print(f"{given.trials} trials one by one {alone:.1f} s, by {given.stack} {together:.1f} s", flush=True)
    rows = len(store.cohort.rows("train"))
    ratio = statistics.median(ratios[1:])  # the first round warms up
    print(f"{rows} training patients, width {given.dim}: a search with stack {given.stack} is {ratio:.2f}x as fast")


if __name__ == "__main__":
    main()
