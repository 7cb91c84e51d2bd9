"""Kill workers 200 times at random moments and count what was lost. Run: python benchmarks/kills.py [kills] [seed].

Every study has 20 trials on two workers, 10 of which are killed (-9); trials do nothing but wait, so that what is
measured is the bookkeeping: storage, supervisor, MLflow.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from toy_kills import Counts, kill_workers

TRIALS, KILLS = 20, 10


def main(kills: int = 200, seed: int = 0) -> int:
    """Run studies until so many workers are dead, print the counts, and return 1 if anything was lost."""
    total, started, studies = Counts(), time.monotonic(), 0
    while total.kills < kills:
        with tempfile.TemporaryDirectory() as folder:
            wanted = min(KILLS, kills - total.kills)
            total += kill_workers(Path(folder), trials=TRIALS, kills=wanted, workers=2, seed=seed + studies)
        studies += 1
        print(f"{studies} studies, {time.monotonic() - started:.0f} s: {total}", flush=True)
    wrong = {name: getattr(total, name) for name in ("lost", "doubled", "over_budget", "runs_missing")}
    wrong["runs_left_running"] = total.runs_left_running
    print(f"{total.kills} kills, {total.trials} trials, {total.given_up} given up after a second death; {wrong}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
