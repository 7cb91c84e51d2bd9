"""Kill workers 200 times at random moments and count what was lost. Run: python benchmarks/kills.py [--postgres].

Every study has 20 trials on two workers, 10 of which are killed (-9); trials do nothing but wait, so that what is
measured is the bookkeeping: storage (SQLite, or a PostgreSQL of its own), supervisor, MLflow.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from toy_kills import Counts, kill_workers
from toy_postgres import Server, missing, postgres

TRIALS, KILLS = 20, 10


def main() -> int:
    """Print the counts, and return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="storage on a PostgreSQL server of its own")
    options = parser.parse_args()
    reason = missing() if options.postgres else None
    if reason is not None:
        print(reason)
        return 1
    with postgres() if options.postgres else nullcontext() as server:
        return run(options.kills, options.seed, server)


def run(kills: int, seed: int, server: Server | None) -> int:
    """Run studies until so many workers are dead."""
    total, started, studies = Counts(), time.monotonic(), 0
    while total.kills < kills:
        with tempfile.TemporaryDirectory() as folder:
            if server is not None:
                server.fresh()
                (Path(folder) / "storage").write_text(server.url, encoding="utf-8")
            wanted = min(KILLS, kills - total.kills)
            total += kill_workers(Path(folder), trials=TRIALS, kills=wanted, workers=2, seed=seed + studies)
        studies += 1
        print(f"{studies} studies, {time.monotonic() - started:.0f} s: {total}", flush=True)
    wrong = {name: getattr(total, name) for name in ("lost", "doubled", "over_budget", "runs_missing")}
    wrong["runs_left_running"] = total.runs_left_running
    print(f"{total.kills} kills, {total.trials} trials, {total.given_up} given up after a second death; {wrong}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
