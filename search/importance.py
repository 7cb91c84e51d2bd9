"""How much each choice of a study mattered for the score, in two ways that answer different questions."""

from __future__ import annotations

import math
import warnings

import optuna
from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from search.duplicates import is_duplicate
from search.objectives import maximises

_ENOUGH = 8
_TOP, _AT_LEAST = 0.1, 5  # the share of trials that counts as the best, but no fewer than so many


def importance(study: optuna.Study) -> dict[str, float]:
    """Return what it took to be among the best tenth of trials (PED-ANOVA), the shares of all choices adding up to 1.

    Choices that hang on others take part by how often they were there. Empty for fewer than 8 finished trials, or where
    all scored the same.

    Reference:
        Watanabe, Bansal, Hutter, PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces,
        2023; its form for choices that hang on others is Optuna's, condPED-ANOVA, 2026.
    """
    trials = _trials(study)
    top = max(_TOP, min(0.5, _AT_LEAST / max(1, len(trials))))
    names = {name for trial in trials for name in trial.params}
    return _evaluated(study, trials, names, PedAnovaImportanceEvaluator(target_quantile=top))


def variance_shares(study: optuna.Study, seed: int = 0) -> dict[str, float]:
    """Return how much of the score's variation over the whole space each choice alone explains (fANOVA).

    Only choices that every finished trial had, because a forest cannot be asked about one that was not there. Empty as
    for `importance`.

    Reference:
        Hutter, Hoos, Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, 2014.
    """
    trials = _trials(study)
    names = set.intersection(*(set(trial.params) for trial in trials)) if trials else set()
    return _evaluated(study, trials, names, FanovaImportanceEvaluator(seed=seed))


def _trials(study: optuna.Study) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [each for each in trials if not is_duplicate(each)]


def _evaluated(
    study: optuna.Study, trials: list[FrozenTrial], names: set[str], evaluator: BaseImportanceEvaluator
) -> dict[str, float]:
    chosen = {name: {trial.params.get(name) for trial in trials} for name in sorted(names)}
    varied = [name for name, values in chosen.items() if len(values) > 1]
    if not varied or len(trials) < _ENOUGH or len({trial.values[0] for trial in trials}) < 2:
        return {}
    sign = -1.0 if maximises(study) else 1.0  # PED-ANOVA asks what makes its target low

    def target(trial: FrozenTrial) -> float:
        return math.nan if is_duplicate(trial) else sign * float(trial.values[0])  # what is not finite is left out

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Optuna says each time what low means, and which choices are rare
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied, target=target)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
