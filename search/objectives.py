"""Several objectives: which trials no other beats, which keep within limits, and which of them to take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fusion.component import UsageError, unknown
from search.duplicates import DUPLICATE_OF

LIMITS = "limits"
"""The user attribute of a trial that says by how much it is over each limit; at most 0 is within."""
RULES = ("best", "knee", "smallest")
_TOLERANCE = 0.01  # of the best score, that `smallest` gives away for fewer parameters


class Noted(Protocol):
    """What is read of a trial to tell whether it may be taken; `optuna.trial.FrozenTrial` has all of it."""

    state: Any

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What its worker noted."""

    @property
    def values(self) -> Sequence[float] | None:
        """The objectives of a completed trial."""


def score_of(trial: FrozenTrial) -> float | None:
    """Return the first objective of a trial, the score; None where there is none yet."""
    return trial.values[0] if trial.values else None


def maximises(study: optuna.Study) -> bool:
    """Tell whether a higher score is better."""
    return study.directions[0] == StudyDirection.MAXIMIZE


def feasible(trial: Noted) -> bool:
    """Tell whether a trial keeps within all limits that were measured of it."""
    return all(over <= 0 for over in trial.user_attrs.get(LIMITS, ()))


def is_candidate(trial: Noted) -> bool:
    """Tell whether a trial may be taken: complete, within the limits, and no copy, of which nothing was measured."""
    complete = trial.state == TrialState.COMPLETE and bool(trial.values)
    return complete and feasible(trial) and DUPLICATE_OF not in trial.user_attrs


def candidates(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that may be taken, the best score first."""
    sign = -1.0 if maximises(study) else 1.0
    return sorted(filter(is_candidate, study.get_trials(deepcopy=False)), key=lambda each: sign * float(each.values[0]))


def pareto(study: optuna.Study) -> list[FrozenTrial]:
    """Return the candidates that no other is as good as in everything and better in something, best score first."""
    found = candidates(study)
    losses = _losses(study, found)
    kept = []
    for i, trial in enumerate(found):
        as_good = (losses <= losses[i]).all(1) & (losses < losses[i]).any(1)
        twin = (losses[:i] == losses[i]).all(1).any() if i else False
        if not as_good.any() and not twin:
            kept.append(trial)
    return kept


def picked(study: optuna.Study, names: Sequence[str], rule: str) -> list[FrozenTrial]:
    """Order the candidates by a rule, the one to take first.

    - `best`: by score.
    - `knee`: from the Pareto front, by the distance to the best of every objective, each scaled to the front.
    - `smallest`: the fewest parameters among those within 0.01 of the best score.
    - `parameters<=1e5, latency_ms<=4`: by score among those for which it holds; names are objectives, or what was
      measured of each trial.

    Args:
        names: of the objectives, in the study's order.

    Raises:
        UsageError: no such rule or name, or no trial is left.
    """
    conditions = [] if rule in RULES else [Condition.read(part.strip()) for part in rule.split(",")]
    found = candidates(study)
    if rule == "knee":
        front = pareto(study)
        losses = _losses(study, front)
        spread = np.ptp(losses, axis=0)
        far = np.linalg.norm((losses - losses.min(0)) / np.where(spread > 0, spread, 1.0), axis=1) if front else []
        found = [front[i] for i in np.argsort(far, kind="stable")]
    elif rule == "smallest":
        near = [each for each in found if abs(each.values[0] - found[0].values[0]) <= _TOLERANCE]
        found = sorted(near, key=lambda each: float(each.user_attrs.get("parameters", np.inf)))
    elif conditions:
        known = {name for each in found for name in measured(each, names)}
        for each in conditions if found else ():
            if each.name not in known:
                raise unknown("measure", each.name, known, "--pick")
        found = [each for each in found if all(_holds(measured(each, names), part) for part in conditions)]
    if not found:
        raise UsageError(f"no finished trial is left by the rule '{rule}'")
    return found


def measured(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float]:
    """Return the objectives of a trial and what else was measured of it."""
    costs = trial.user_attrs.get("costs", {})
    known = {name: trial.user_attrs[name] for name in ("parameters", "seconds") if name in trial.user_attrs}
    return {**known, **costs, **dict(zip(names, trial.values or (), strict=False))}


@dataclass(frozen=True)
class Condition:
    """A bound on something that was measured of a trial, such as `latency_ms<=5`."""

    name: str
    at_most: bool
    bound: float

    @classmethod
    def read(cls, text: str) -> Condition:
        """Read a condition as it is written.

        Raises:
            UsageError: it is neither a condition nor the name of a rule.
        """
        number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
        found = re.fullmatch(rf"(\w+)\s*(<=|>=)\s*({number})", text)
        if found is None:
            raise unknown("rule", text, (*RULES, "NAME<=VALUE", "NAME>=VALUE"), "--pick")
        return cls(found[1], found[2] == "<=", float(found[3]))


def _holds(values: Mapping[str, float], condition: Condition) -> bool:
    """Tell whether a condition holds; it does not where nothing was measured."""
    value = values.get(condition.name)
    if value is None:
        return False
    return value <= condition.bound if condition.at_most else value >= condition.bound


def _losses(study: optuna.Study, trials: Sequence[FrozenTrial]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return objectives such that less is better. Shape: (N, objectives)."""
    signs = np.array([-1.0 if each == StudyDirection.MAXIMIZE else 1.0 for each in study.directions])
    return np.array([each.values for each in trials], np.float64).reshape(len(trials), len(signs)) * signs


def over_limits(costs: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each measured cost is over its limit, in units of the limit."""
    return {name: costs[name] / limit - 1.0 for name, limit in limits.items() if name in costs}
