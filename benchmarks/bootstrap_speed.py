"""The bootstrap against a loop over scikit-learn on the same resamples: python benchmarks/bootstrap_speed.py.

AUROC and average precision on 1,000 resamples of 10,000 predictions. The loop is timed on some of the resamples and
scaled up; drawing patients counts on both sides, and every value of the loop is checked against ours.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments.metrics import METRICS
from experiments.statistics.bootstrap import Resamples, metric_distributions

NAMES = ("auroc", "auprc")


def main() -> None:
    """Print seconds and ratio, without and with ties."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=100, help="resamples of the loop over scikit-learn")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    target = (rng.random(arguments.predictions) < 0.2).astype(float)
    score = 1 / (1 + np.exp(-(target + rng.normal(size=arguments.predictions))))
    for name, prediction in (("no ties", score), ("two decimals", np.round(score, 2))):
        measure(name, target, prediction, arguments.resamples, arguments.timed)


def measure(name: str, target: np.ndarray, prediction: np.ndarray, resamples: int, timed: int) -> None:
    """Print one line. Shape: target and prediction (N,)."""
    rows, best = np.arange(len(target)), np.inf
    for _ in range(3):
        started = time.perf_counter()
        drawn = Resamples.draw(rows, resamples, seed=0)
        found = metric_distributions([METRICS[each] for each in NAMES], target, prediction, drawn)
        best = min(best, time.perf_counter() - started)
    started = time.perf_counter()
    again = Resamples.draw(rows, timed, seed=0)
    expected = []
    for counts in again.counts:
        taken = np.repeat(rows, counts)
        truth, scored = target[taken], prediction[taken]
        expected.append((roc_auc_score(truth, scored), average_precision_score(truth, scored)))
    loop = (time.perf_counter() - started) * resamples / timed
    ours = np.stack([found[each][:timed] for each in NAMES], axis=1)
    apart = np.abs(ours - np.array(expected)).max()
    print(f"{name}: ours {best:.3f} s, loop {loop:.1f} s, ratio {loop / best:.0f}, largest difference {apart:.1e}")


if __name__ == "__main__":
    main()
