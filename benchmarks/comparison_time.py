"""How long a whole comparison takes: python benchmarks/comparison_time.py.

Eight strategies (five fusions and three single modalities) in five folds with three seeds on 2,000 synthetic patients,
with what always comes along (all modalities but one, the control on counts), the audit of every fold, and the whole
report. Wanted: under 15 minutes on two cores. Prints seconds of wall time, and of it what training took.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from experiments.benchmark import recipe_config
from experiments.comparing import compare_config
from experiments.config import parse_config

FUSIONS = ["early", "late", "cross_attention", "gated", "sum"]
ENCODERS = {"codes": "bag", "notes": "bag", "graph": "ancestors"}


def main() -> None:
    """Run the comparison from nothing and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison-time"))
    given = parser.parse_args()
    plain = recipe_config("mixed", given.runs, patients=given.patients, fusions=FUSIONS).model_dump(mode="json")
    plain["model"]["encoders"] = ENCODERS
    plain["compare"]["folds"] = given.folds
    config, start = parse_config(plain), time.perf_counter()
    found, folder = compare_config(config, seeds=given.seeds, workers=given.workers)
    seconds = time.perf_counter() - start
    strategies = len({row.strategy for row in found.rows})
    print(found.verdict())
    runs = f"{strategies} strategies x {given.folds} folds x {given.seeds} seeds"
    print(f"{runs}: {strategies * given.folds * given.seeds} runs and the report in {seconds:.0f} s")
    print(f"{folder / 'comparison.html'}, {(folder / 'comparison.html').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
