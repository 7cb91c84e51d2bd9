"""Regularised evolution as a sampler: the best of a few recent candidates, with one place changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.duplicates import is_duplicate
from search.objectives import feasible

_STEP = 0.2  # of a range, the spread of a mutated number


class EvolutionSampler(BaseSampler):
    """Draw a tournament from the youngest finished candidates, take its best, and change one place of it.

    Places are all choices of a candidate alike: an encoder, a fusion, a gene, a width, a training setting; what hangs
    on a changed choice is drawn anew. Old candidates leave the population whatever their score, so that a lucky one
    does not stay for ever. Pruned candidates take part with their last score; duplicates and those over a limit do
    not. A number moves by a normal step, a choice to another option. Several objectives compete by their first.

    Reference:
        Real et al., Regularized Evolution for Image Classifier Architecture Search, 2019; Xu, So, Dai, MUFASA:
        Multimodal Fusion Architecture Search for Electronic Health Records, 2021 (evolution over encoders and fusion at
        once).
    """

    def __init__(self, seed: int, *, population: int = 20, tournament: int = 5, startup_trials: int = 10) -> None:
        self._random = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)
        self.population, self.tournament, self.startup_trials = population, tournament, startup_trials
        self._parents: dict[int, tuple[FrozenTrial, str]] = {}

    def reseed_rng(self) -> None:
        """Draw other numbers from here on."""
        self._random = np.random.default_rng()
        self._independent.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose the parent and the place that changes."""
        self._parents = {}
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = [each for each in study.get_trials(deepcopy=False, states=states) if feasible(each)]
        scored = [each for each in trials if _score(each) is not None and not is_duplicate(each)]
        if len(scored) < self.startup_trials:
            return
        young = scored[-self.population :]
        drawn = self._random.choice(len(young), min(self.tournament, len(young)), replace=False)
        sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
        parent = max((young[i] for i in drawn), key=lambda each: sign * float(_score(each) or 0.0))
        places = sorted(name for name, each in parent.distributions.items() if not each.single())
        if places:
            self._parents[trial.number] = parent, places[int(self._random.integers(len(places)))]

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 - the type of BaseSampler
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Nothing is drawn jointly: each choice asks its parent."""
        return {}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: Mapping[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Nothing is drawn jointly."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Inherit a choice, change it, or draw it where the parent has none."""
        parent, place = self._parents.get(trial.number, (None, ""))
        if parent is None or parent.distributions.get(param_name) != param_distribution:
            return self._independent.sample_independent(study, trial, param_name, param_distribution)
        value = parent.params[param_name]
        return value if param_name != place else self._changed(value, param_distribution)

    def _changed(self, value: Any, distribution: BaseDistribution) -> Any:
        if isinstance(distribution, CategoricalDistribution):
            others = [each for each in distribution.choices if each != value or type(each) is not type(value)]
            return others[int(self._random.integers(len(others)))]
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        inward, outward = (math.log, math.exp) if distribution.log else (float, float)
        low, high, at = (inward(float(each)) for each in (distribution.low, distribution.high, value))
        moved = at + self._random.normal(0.0, _STEP) * (high - low)
        moved = max(low, min(high, 2 * low - moved if moved < low else 2 * high - moved if moved > high else moved))
        if isinstance(distribution, FloatDistribution):
            return min(distribution.high, max(distribution.low, outward(moved)))
        whole = round(outward(moved))
        if whole == value:  # too small a step for a whole number
            whole += 1 if (moved > at and value < distribution.high) or value <= distribution.low else -1
        return int(min(distribution.high, max(distribution.low, whole)))


def _score(trial: FrozenTrial) -> float | None:
    if not feasible(trial):
        return None
    if trial.state == TrialState.COMPLETE and trial.values:
        return trial.values[0]
    reported = trial.intermediate_values
    return reported[max(reported)] if reported else None
