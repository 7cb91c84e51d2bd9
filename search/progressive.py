"""Progressive search as a sampler: a candidate grows place by place, as a surrogate expects of its beginnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial

from search.objectives import judged, last_score, maximises

_TREES, _NUMBERS = 25, 8  # trees of the surrogate; values that are tried of a range
_WARM, _COLD, _COOLING = 1.0, 0.1, 20.0  # temperatures in standard deviations of the scores, and trials between them
_DEPTH = ("", None)  # the column that says how long a beginning is


class ProgressiveSampler(BaseSampler):
    """Extend a candidate by one place after the other, towards what the surrogate expects to be good.

    The surrogate, a forest of regression trees, learns the score of finished candidates from each of their beginnings:
    the first encoder alone, that and the next one, and so on to the whole. So it can be asked what may come of a
    candidate that is not complete yet. At each place an option is drawn with a probability that rises exponentially
    with what is expected of it; the temperature falls as trials finish. Duplicates and candidates over a limit teach
    nothing; several objectives count by their first.

    Reference:
        Perez-Rua et al., MFAS: Multimodal Fusion Architecture Search, 2019. There a recurrent network learns from
        architectures of growing depth, and many are drawn at once; here trees learn from beginnings, and a worker draws
        one.
    """

    def __init__(self, seed: int, *, startup_trials: int = 10) -> None:
        self._random = np.random.default_rng(seed)
        self._independent = RandomSampler(seed=seed)
        self.startup_trials = startup_trials
        self._surrogate: Any = None
        self._columns: dict[tuple[str, Any], int] = {}
        self._temperature = _WARM

    def reseed_rng(self) -> None:
        """Draw other numbers from here on."""
        self._random = np.random.default_rng()
        self._independent.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:  # noqa: ARG002 - the type of BaseSampler
        """Learn from all trials that have a score."""
        from sklearn.ensemble import ExtraTreesRegressor

        self._surrogate = None
        trials = judged(study)
        scores = np.array([last_score(each) for each in trials], np.float64) * (1 if maximises(study) else -1)
        if len(trials) < self.startup_trials or scores.std() == 0:
            return
        self._columns = {_DEPTH: 0}
        beginnings = [list(_beginnings(each)) for each in trials]
        for params, distributions in (each[-1] for each in beginnings):
            for name, value in params.items():
                self._columns.setdefault(_column(name, value, distributions[name]), len(self._columns))
        rows = np.stack([self._row(*beginning) for each in beginnings for beginning in each])
        targets = np.repeat((scores - scores.mean()) / scores.std(), [len(each) for each in beginnings])
        self._surrogate = ExtraTreesRegressor(_TREES, random_state=int(self._random.integers(2**31)))
        self._surrogate.fit(rows, targets)
        self._temperature = _COLD + (_WARM - _COLD) * float(np.exp(-len(trials) / _COOLING))

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Nothing is drawn jointly: a candidate grows place by place."""
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
        """Draw the next place by what is expected of the candidate so far with each option."""

        def draw() -> Any:
            return self._independent.sample_independent(study, trial, param_name, param_distribution)

        if self._surrogate is None:
            return draw()
        choices = param_distribution.choices if isinstance(param_distribution, CategoricalDistribution) else ()
        options: Sequence[Any] = choices or [draw() for _ in range(_NUMBERS)]
        distributions = {**trial.distributions, param_name: param_distribution}
        rows = np.stack([self._row({**trial.params, param_name: each}, distributions) for each in options])
        expected = self._surrogate.predict(rows) / self._temperature
        weights = np.exp(expected - expected.max())
        return options[int(self._random.choice(len(options), p=weights / weights.sum()))]

    def _row(self, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> NDArray[np.float64]:
        """Write a beginning as numbers: one column for each option and each number; what is not there yet is 0."""
        row = np.zeros(len(self._columns))
        row[0] = len(params)
        for name, value in params.items():
            column = self._columns.get(_column(name, value, distributions[name]))
            if column is not None:  # an option that no trial has had says nothing
                row[column] = _scaled(value, distributions[name])
        return row


def _beginnings(trial: FrozenTrial) -> list[tuple[dict[str, Any], Mapping[str, BaseDistribution]]]:
    """Return the beginnings of a candidate, from one place to all, in the order in which they were drawn."""
    names = list(trial.params)
    return [({name: trial.params[name] for name in names[: i + 1]}, trial.distributions) for i in range(len(names))]


def _column(name: str, value: Any, distribution: BaseDistribution) -> tuple[str, Any]:
    return name, repr(value) if isinstance(distribution, CategoricalDistribution) else None


def _scaled(value: Any, distribution: BaseDistribution) -> float:
    """Return 1 for an option, a number from 1 to 2 by its place in its range."""
    if not isinstance(distribution, FloatDistribution | IntDistribution) or distribution.single():
        return 1.0
    low, high, at = (float(each) for each in (distribution.low, distribution.high, value))
    if distribution.log:
        low, high, at = (float(np.log(each)) for each in (low, high, at))
    return 1.0 + (at - low) / (high - low)
