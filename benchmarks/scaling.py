"""Is the irreducible loss found where it is known? python benchmarks/scaling.py FOLDER [--patients 32000].

Timelines are drawn from a Markov chain, so that no model can predict the next code better than the chain's entropy
rate. Tiny models of several sizes learn from several shares of the patients; the irreducible loss of the fitted surface
is held against the entropy rate. With --budgets sizes are compared at equal operations.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.config import parse_config
from experiments.scaling.command import run_scaling
from experiments.sources import folder as meds

STATES, LENGTH = 12, 64
SCALING: dict[str, Any] = {
    "sizes": [{"dim": dim, "layers": 1, "heads": 1, "dropout": 0.0} for dim in (4, 6, 8, 12, 20)],
    "shares": [0.1, 0.18, 0.32, 0.56, 1.0],
    "batch_size": 8,
    "validation": 0.15,
    "lr": 1e-2,
}
BUDGETS: dict[str, Any] = {
    "sizes": [{"dim": dim, "layers": 1, "heads": 1, "dropout": 0.0} for dim in (4, 8, 12, 20, 32, 48)],
    "flops": [1.5e9, 3e9, 6e9],
    "epochs": 4,
    "batch_size": 8,
    "lr": 1e-2,
}


def chain(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return transition probabilities (K, K), the stationary distribution (K,) and the entropy rate in nats."""
    logits = np.random.default_rng(seed).normal(0, 1.5, (STATES, STATES))
    move = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    values, vectors = np.linalg.eig(move.T)
    stationary = np.real(vectors[:, np.argmax(values.real)])
    stationary /= stationary.sum()
    return move, stationary, float(-(stationary[:, None] * move * np.log(move)).sum())


def write_folder(out: Path, patients: int, seed: int) -> None:
    """Write patients whose codes are drawn from the chain, a minute apart: no token of a gap stands between them."""
    move, stationary, _ = chain(seed)
    rng = np.random.default_rng(seed + 1)
    states = np.empty((patients, LENGTH), np.int64)
    states[:, 0] = rng.choice(STATES, patients, p=stationary)
    steps = np.cumsum(move, axis=1)
    for place in range(1, LENGTH):
        drawn = (rng.random(patients)[:, None] > steps[states[:, place - 1]]).sum(1)
        states[:, place] = np.minimum(drawn, STATES - 1)
    begin = datetime(2020, 1, 1)
    times = [begin + timedelta(minutes=place) for place in range(LENGTH)]
    subjects = np.arange(1, patients + 1)
    codes = [f"STATE//{each}" for each in range(STATES)]
    events = pl.DataFrame(
        {
            "subject_id": np.repeat(subjects, LENGTH),
            "time": times * patients,
            "code": [codes[each] for each in states.ravel().tolist()],
        }
    )
    with meds.new_folder(out) as folder:
        meds.write_events(folder, 0, events)
        meds.write_codes(folder, codes, {}, {})
        meds.write_splits(folder, meds.split_by_group(pl.DataFrame({"subject_id": subjects, "group": subjects}), seed))
        labels = {"subject_id": subjects, "prediction_time": [begin + timedelta(days=1)] * patients}
        meds.write_labels(folder, "outcome", pl.DataFrame(labels | {"boolean_value": subjects % 2 == 0}))
        meds.write_dataset(folder, dataset_name="markov", dataset_version="1", license="CC0-1.0")


def main() -> None:
    """Write the timelines, train the grid and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=32_000)
    parser.add_argument("--budgets", action="store_true", help="sizes at equal operations; 3,000 patients suffice")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = arguments.folder / "data"
    if not data.exists():
        write_folder(data, arguments.patients, arguments.seed)
    settings = {
        "name": "markov",
        "runs": arguments.folder / "runs",
        "data": {"folder": data, "labels": "outcome", "preprocess": {"codes": {"max_tokens": LENGTH}}},
        "model": {"encoders": {"codes": "timeline"}, "fusion": "sum", "dim": 16},
        "tracking": {"enabled": False},
        "scaling": BUDGETS if arguments.budgets else SCALING,
    }
    start = time.process_time()
    for line in run_scaling(parse_config(settings)):
        print(line)
    found = json.loads((arguments.folder / "runs" / "markov" / "scaling" / "scaling.json").read_text(encoding="utf-8"))
    rate = chain(arguments.seed)[2]
    lowest = min(each["loss"] for each in found["cells"])
    print(
        f"entropy rate {rate:.4f}; best cell {lowest:.4f} ({lowest / rate - 1:+.2%}); "
        f"{time.process_time() - start:.0f} s of CPU"
    )
    if isinstance(found["surface"], dict):
        floor = found["surface"]["irreducible"]
        print(f"irreducible loss {floor:.4f}, {floor / rate - 1:+.2%} of the entropy rate")


if __name__ == "__main__":
    main()
