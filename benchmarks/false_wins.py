"""How often does a comparison show what is not there, and what is? python benchmarks/false_wins.py.

Eight strategies (four fusions, three single modalities, a control) are compared on the same patients. In the first
lines none is better than another: whatever is shown is false. In the last line of each size one fusion is better. The
leader is looked up on the patients it is tested on, as `ehrfusion compare` does. Wanted: at most 5% of false wins.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from experiments.comparison import Comparison, compare_predictions
from experiments.progress import progress_bar
from fusion import Task

KINDS = {f"fusion {i}": "fusion" for i in range(4)} | {f"modality {i}": "modality" for i in range(3)}
KINDS["control"] = "control"
SEEDS = 3


class Setting(NamedTuple):
    """Patients, share with the outcome, how far apart every score holds outcomes, and how much further the first."""

    patients: int
    prevalence: float
    shift: float
    gain: float = 0.0

    @property
    def said(self) -> str:
        """The setting in words."""
        what = "one is better" if self.gain else "all are alike" if self.shift else "all are noise"
        return f"{self.patients} patients, {self.prevalence:.0%} with the outcome, {what}"


SETTINGS = tuple(
    Setting(patients, prevalence, shift, gain)
    for patients, prevalence in ((100, 0.3), (300, 0.3), (1000, 0.1))
    for shift, gain in ((0.0, 0.0), (1.0, 0.0), (1.0, 0.8))
)


def draw(setting: Setting, rng: np.random.Generator) -> tuple[NDArray[Any], dict[str, list[NDArray[Any]]]]:
    """Return outcomes and predictions; half of a score's variance is common to all, a quarter is a seed's."""
    target = (rng.random(setting.patients) < setting.prevalence).astype(float)
    target[:2] = 0, 1  # both outcomes, always
    common = rng.normal(size=setting.patients)
    found = {}
    for name in KINDS:
        own = rng.normal(size=setting.patients)
        shift = setting.shift + (setting.gain if name == "fusion 0" else 0.0)
        noise = [rng.normal(size=setting.patients) for _ in range(SEEDS)]
        found[name] = [expit(shift * target + np.sqrt(0.5) * common + 0.5 * own + 0.5 * each) for each in noise]
    return target, found


def outcomes(found: Comparison) -> dict[str, bool]:
    """Return what a comparison shows, by the correction that is used and by Holm's for the pairs of the table."""
    fusion, single = found.best("fusion"), found.best("modality")
    assert fusion is not None
    assert single is not None
    pair = next(each for each in found.differences if {each.first, each.second} == {fusion.strategy, single.strategy})
    gain = pair.value if pair.first == fusion.strategy else -pair.value
    return {
        "any difference": any(each.shown for each in found.differences),
        "fusion over single modality": pair.shown and gain > 0,
        "any difference, Holm": any(each.p_holm < 0.05 and each.low * each.high > 0 for each in found.differences),
    }


def measure(setting: Setting, cohorts: int, resamples: int) -> dict[str, float]:
    """Return the share of cohorts in which a comparison shows each thing."""
    rng = np.random.default_rng(0)
    shown = []
    with progress_bar(setting.said, cohorts) as advance:
        for cohort in range(cohorts):
            target, predictions = draw(setting, rng)
            patients = np.arange(setting.patients)
            found = compare_predictions(
                Task("binary"), target, patients, predictions, KINDS, resamples=resamples, seed=cohort
            )
            shown.append(outcomes(found))
            advance()
    return {name: float(np.mean([each[name] for each in shown])) for name in shown[0]}


def main() -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=500)
    arguments = parser.parse_args()
    print(f"share of {arguments.cohorts} cohorts in which a comparison of {len(KINDS)} strategies shows")
    for setting in SETTINGS:
        found = measure(setting, arguments.cohorts, arguments.resamples)
        print(f"{setting.said}: " + ", ".join(f"{name} {share:.1%}" for name, share in found.items()), flush=True)


if __name__ == "__main__":
    main()
