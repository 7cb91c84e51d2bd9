"""What may be taken: never a trial over a limit or a copy, wherever the best is asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError
from toy_tracking import connection, empty_runs, runs, tracker, trial  # noqa: F401 - fixtures
from toy_trials import ATTRIBUTES, spec  # noqa: F401

from experiments.live import best_trial
from experiments.race import anytime
from experiments.search_config import SearchConfig
from experiments.tracking.runs import Connection, find_runs
from fusion import UsageError
from search.duplicates import record_duplicate
from search.evolution import EvolutionSampler
from search.objectives import LIMITS, candidates, picked
from search.samplers import make_sampler
from search.study import StudySpec, create_or_resume
from search.trial import TrialHandle


def finished(score: float, **attributes: Any) -> FrozenTrial:
    return create_trial(state=TrialState.COMPLETE, value=score, user_attrs=attributes)


def over(score: float) -> FrozenTrial:
    return finished(score, **{LIMITS: [-0.2, 0.1]})


def test_neither_a_copy_nor_a_trial_over_a_limit_is_best() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([over(0.9), finished(0.9, duplicate_of=0), finished(0.7, **{LIMITS: [0.0]}), finished(0.6)])
    assert [each.number for each in candidates(study)] == [2, 3]
    best = best_trial(study.get_trials(), maximise=True)
    assert best is not None
    assert best.number == 2
    assert best_trial([over(0.9)], maximise=True) is None


def test_the_best_so_far_leaves_out_what_is_over_a_limit() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([finished(0.6), over(0.9), finished(0.7)])
    assert anytime(study.get_trials(), True, {}).best.tolist()[1:] == [0.6, 0.6, 0.7]


def test_what_is_over_a_limit_has_no_offspring() -> None:
    study = optuna.create_study(direction="maximize", sampler=EvolutionSampler(0, startup_trials=2))
    place = optuna.distributions.CategoricalDistribution(["a", "b", "c"])
    for value, attributes in (("a", {LIMITS: [1.0]}), ("b", {}), ("b", {})):
        score = 0.9 if value == "a" else 0.5
        study.add_trial(
            create_trial(value=score, params={"x": value}, distributions={"x": place}, user_attrs=attributes)
        )
    parents = set()
    for _ in range(20):
        asked = study.ask()
        asked.suggest_categorical("x", ["a", "b", "c"])
        parents.add(study.sampler._parents[asked.number][0].number)  # type: ignore[attr-defined]
    assert parents <= {1, 2}


def test_mlflow_calls_only_what_may_be_taken_the_best_and_names_objectives(connection: Connection) -> None:
    study = tracker(connection, objectives=("auroc", "latency_ms"))
    limited = trial(1, state=TrialState.COMPLETE, **{LIMITS: [0.5]})  # scores 0.76, the other 0.75
    other = trial(0, state=TrialState.COMPLETE, costs={"flops": 7.0})
    other.values = [0.75, 3.5]
    assert study.finish([other, limited])
    parent = next(
        run for run in find_runs(connection, "ehrfusion.study_key", "key-1/demo") if run.info.run_id == study.run_id
    )
    assert parent.data.tags["ehrfusion.best_trial"] == "0"
    assert parent.data.metrics["best_score"] == 0.75
    child = next(
        run
        for run in find_runs(connection, "mlflow.parentRunId", str(study.run_id))
        if run.data.tags["ehrfusion.trial_key"].endswith("/0/0")
    )
    assert {name: child.data.metrics[name] for name in ("score", "latency_ms", "flops")} == {
        "score": 0.75,
        "latency_ms": 3.5,
        "flops": 7.0,
    }


def test_a_condition_on_what_was_not_measured_of_a_trial_does_not_hold() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials([finished(0.9), finished(0.7, parameters=50), finished(0.6, parameters=500)])
    assert [each.number for each in picked(study, ("auroc",), "parameters<=100")] == [1]
    assert [each.number for each in picked(study, ("auroc",), "parameters>=1")] == [1, 2]


@pytest.mark.parametrize("rule", ["kneee", "auroc<=", "auroc<=1e", "auroc<=.", "auroc=1", "auroc<=1;auroc>=0"])
def test_a_rule_that_is_not_well_formed_is_refused_before_there_are_trials(rule: str) -> None:
    with pytest.raises(UsageError, match="--pick: unknown rule"):
        picked(optuna.create_study(), ("auroc",), rule)


def test_a_study_is_not_resumed_for_other_objectives(spec: StudySpec) -> None:
    create_or_resume(spec, {**ATTRIBUTES, "objectives": ["auroc"]})
    several = replace(spec, more=("minimize",))
    with pytest.raises(UsageError, match="study 'toy' exists with other objectives; choose another name"):
        create_or_resume(several, {**ATTRIBUTES, "objectives": ["auroc", "latency_ms"]})


def test_objectives_have_their_names_in_optuna_too(spec: StudySpec) -> None:
    study = create_or_resume(replace(spec, more=("minimize",)), {**ATTRIBUTES, "objectives": ["auroc", "flops"]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        assert study.metric_names == ["auroc", "flops"]


@pytest.mark.parametrize("name", ["tpe", "evolution"])
def test_samplers_avoid_what_limits_end_before_training(name: str) -> None:
    found = []
    for seed in range(3):
        study = optuna.create_study(sampler=make_sampler(name, seed))

        def objective(trial: optuna.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            TrialHandle(trial, 0, lambda: False).over({"size": x - 0.3})  # a random x is within with 0.3
            if x > 0.3:
                raise optuna.TrialPruned
            return -x

        study.optimize(objective, n_trials=80)
        found += [trial.params["x"] <= 0.3 for trial in study.get_trials()[30:]]
    assert np.mean(found) > 0.4


@pytest.mark.parametrize("sampler", ["gp", "cmaes", "progressive"])
def test_samplers_that_learn_nothing_from_limits_are_refused_with_them(sampler: str) -> None:
    with pytest.raises(ValidationError, match=f"sampler '{sampler}' does not learn from trials that a limit ended"):
        SearchConfig(trials=3, sampler=sampler, limits={"parameters": 10.0})  # type: ignore[arg-type]
    SearchConfig(trials=3, sampler=sampler)  # type: ignore[arg-type]


def test_samplers_are_told_that_a_copy_is_over_a_limit_too() -> None:
    study = optuna.create_study(direction="maximize")
    first = study.ask()
    first.set_constraint("memory_mb", 0.5)
    twin = study.tell(first, 0.9)
    copy = study.ask()
    assert record_duplicate(study, copy, twin, tickets=False) == [0.9]
    assert study.tell(copy, 0.9).constraints == {"memory_mb": 0.5}
