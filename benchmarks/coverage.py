"""How often 95% intervals hold the true value, on simulated binormal cohorts: python benchmarks/coverage.py.

Scores of both classes are normal with equal spread, so the true AUROC, average precision and Brier score are known.
Every cohort draws its patients' outcomes too. Wanted: 93 to 97%. Also for a paired difference of two correlated
predictions, and for patients with several rows that share a part of their score and their outcome.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import norm

from experiments.metrics import METRICS
from experiments.statistics.bootstrap import Resamples, metric_distributions
from experiments.statistics.delong import delong
from experiments.statistics.intervals import bca_interval, percentile_interval

Array = NDArray[Any]
SINGLE = ("auroc", "auprc", "brier")
BOTH = np.array([1.0, -1.0])


class Setting(NamedTuple):
    """A cohort: patients, share with the outcome, AUROC, rows of a patient; the second prediction's AUROC is lower."""

    patients: int
    prevalence: float
    auroc: float
    rows: int = 1

    @property
    def shift(self) -> float:
        """How far apart the classes are."""
        return float(np.sqrt(2) * ndtri(self.auroc))

    def truth(self) -> dict[str, float]:
        """Return the true value of everything that is estimated."""
        share, shift = self.prevalence, self.shift

        def precision(x: float) -> float:
            hits, misses = share * ndtr(shift - x), (1 - share) * ndtr(-x)
            return float(hits / (hits + misses) * norm.pdf(x - shift)) if hits > 0 else 0.0

        def error(x: float) -> float:
            risk = self.risk(x)
            return float(share * norm.pdf(x - shift) * (1 - risk) ** 2 + (1 - share) * norm.pdf(x) * risk**2)

        return {
            "auroc": self.auroc,
            "auprc": quad(precision, -8, 8 + shift)[0],
            "brier": quad(error, -8, 8 + shift)[0],
            "auroc difference": 0.05,
        }

    def risk(self, score: Any) -> Any:
        """Return the calibrated risk of a score."""
        return expit(self.shift * score - self.shift**2 / 2 + logit(self.prevalence))

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Return (patient of each row, outcomes, two risks). Shape: (N,), (N,), (2, N)."""
        patient = np.repeat(np.arange(self.patients), self.rows)
        target = np.repeat(rng.random(self.patients) < self.prevalence, self.rows).astype(float)
        common, own, second = (rng.normal(size=len(patient)) for _ in range(3))
        if self.rows > 1:  # half of a score's spread is the patient's
            common = np.repeat(rng.normal(size=self.patients), self.rows)
        scores = np.sqrt(0.5) * common + np.sqrt(0.5) * np.stack([own, second])
        other = self._replace(auroc=self.auroc - 0.05)
        pairs = zip((self, other), scores, strict=True)
        return patient, target, np.stack([each.risk(score + each.shift * target) for each, score in pairs])


SETTINGS = (
    Setting(100, 0.3, 0.75),
    Setting(200, 0.2, 0.75),
    Setting(200, 0.2, 0.9),
    Setting(500, 0.1, 0.8),
    Setting(1000, 0.3, 0.75),
    Setting(200, 0.3, 0.75, rows=4),
)


def coverage(setting: Setting, cohorts: int, resamples: int, seed: int = 0) -> Mapping[tuple[str, str], float]:
    """Return the share of cohorts whose interval holds the truth, by what is estimated and by method."""
    truth, rng = setting.truth(), np.random.default_rng(seed)
    held: dict[tuple[str, str], list[bool]] = {}
    for cohort in range(cohorts):
        patient, target, risks = setting.draw(rng)
        if target.min() == target.max():
            continue  # one class only: nothing is estimated
        drawn = Resamples.draw(patient, resamples, cohort), Resamples.leave_out(patient, cohort)
        metrics = [METRICS[name] for name in SINGLE]
        found, left_out = (metric_distributions(metrics, target, risks[0], each) for each in drawn)
        values = {metric.name: metric(target, risks[0]) for metric in metrics}
        other = [metric_distributions(metrics[:1], target, risks[1], each)["auroc"] for each in drawn]
        found["auroc difference"], left_out["auroc difference"] = (
            found["auroc"] - other[0],
            left_out["auroc"] - other[1],
        )
        values["auroc difference"] = values["auroc"] - metrics[0](target, risks[1])
        for name, value in values.items():
            spans = {
                "percentile": percentile_interval(value, found[name]),
                "BCa": bca_interval(value, found[name], left_out[name]),
            }
            for method, span in spans.items():
                held.setdefault((name, method), []).append(span.low <= truth[name] <= span.high)
        areas = delong(target, risks, patient)
        for name, span in (
            ("auroc", areas.interval(np.array([1.0, 0.0]))),
            ("auroc difference", areas.difference(BOTH)[0]),
        ):
            held.setdefault((name, "DeLong"), []).append(span.low <= truth[name] <= span.high)
    return {key: float(np.mean(each)) for key, each in held.items()}


def main() -> None:
    """Print one line a cohort size and estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    error = 196 * np.sqrt(0.05 * 0.95 / arguments.cohorts)
    print(f"{arguments.cohorts} cohorts a line, so each figure is within {error:.1f} points of the truth")
    for setting in SETTINGS:
        started = time.perf_counter()
        found = coverage(setting, arguments.cohorts, arguments.resamples)
        rows = f", {setting.rows} rows each" if setting.rows > 1 else ""
        print(f"\n{setting.patients} patients{rows}, {setting.prevalence:.0%} with the outcome, AUROC {setting.auroc}")
        for name in dict.fromkeys(name for name, _ in found):
            mine = {method: share for (each, method), share in found.items() if each == name}
            print(f"  {name:17s}" + "".join(f"  {method} {share:.1%}" for method, share in mine.items()))
        print(f"  {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
