"""Spoil input at random, run the command line on it, and count how it ends: well, or refused in one line.

python benchmarks/fuzz.py --cases 1200
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from toy_fuzz import SPOILS, base, outcome, place


def run(kind: str, cases: int, number: int, whole: Path) -> tuple[Counter[str], list[str]]:
    """Run the cases of one kind; return how they ended, and the failures."""
    ended: Counter[str] = Counter()
    failures: list[str] = []

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def case(data: Any) -> None:
        with place(whole):
            arguments = SPOILS[kind](data.draw)
            try:
                ended[outcome(arguments)] += 1
            except Exception:  # counted and told, so that one failure does not hide the next
                ended["FAILED"] += 1
                failures.append(f"{kind}: {' '.join(arguments)}\n{traceback.format_exc(limit=-6)}")

    case()
    return ended, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1200, help="of all kinds together")
    parser.add_argument("--kinds", nargs="*", default=list(SPOILS), choices=list(SPOILS))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = base(Path(folder))
        for kind in chosen.kinds:
            ended, failures = run(kind, -(-chosen.cases // len(chosen.kinds)), chosen.seed, whole)
            total += ended
            print(
                f"{kind}: {ended.total()} cases: {', '.join(f'{n} {how}' for how, n in sorted(ended.items()))}",
                flush=True,
            )
            print("\n".join(dict.fromkeys(failures)), flush=True)
    print(f"all: {total.total()} cases: {', '.join(f'{n} {how}' for how, n in sorted(total.items()))}")
    sys.exit(1 if total["FAILED"] else 0)
