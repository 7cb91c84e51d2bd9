"""Several objectives: the front by hand, rules to pick by, limits that end trials, groups of patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import TrialState, create_trial

from experiments.config import StudyConfig, parse_config
from experiments.costs import check_objectives, higher_is_better
from experiments.metrics import METRICS
from experiments.objective import make_judge
from experiments.searching import run_search
from experiments.status import study_status
from experiments.studies import finalists, load_study, preparations_of, study_space
from experiments.subgroups import subgroups
from experiments.workspace import open_store
from fusion import UsageError
from search.objectives import candidates, over_limits, pareto, picked
from search.samplers import make_sampler
from search.trial import TrialHandle

NAMES = ("auroc", "latency_ms")


def study_of(*values: tuple[float, float], **attributes: Any) -> optuna.Study:
    """A study of a score to raise and a time to lower; `limits` and `parameters` a trial."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for i, each in enumerate(values):
        attrs = {name: given[i] for name, given in attributes.items()}
        study.add_trial(create_trial(state=TrialState.COMPLETE, values=each, user_attrs=attrs))
    return study


def numbers(trials: list[optuna.trial.FrozenTrial]) -> list[int]:
    return [each.number for each in trials]


def test_the_front_is_whom_no_other_beats() -> None:
    study = study_of((0.8, 9.0), (0.7, 2.0), (0.69, 3.0), (0.8, 9.0), (0.75, 4.0), (0.8, 10.0))
    assert numbers(pareto(study)) == [0, 4, 1], "of equals the first; best score first"
    assert numbers(pareto(study_of())) == []


def test_over_a_limit_is_never_taken() -> None:
    study = study_of((0.8, 9.0), (0.7, 2.0), limits=[[0.1, -0.5], [-0.1]])
    assert numbers(candidates(study)) == [1]
    assert numbers(pareto(study)) == [1]
    assert over_limits({"parameters": 1500.0, "flops": 1.0}, {"parameters": 1000.0, "latency_ms": 5.0}) == {
        "parameters": 0.5
    }


def test_rules_to_pick_by() -> None:
    study = study_of((0.80, 9.0), (0.70, 1.0), (0.78, 2.0), (0.795, 8.0), parameters=[900, 10, 50, 300])
    assert numbers(picked(study, NAMES, "best"))[0] == 0
    # scaled to the front: trial 2 is 0.2 and 1/8 away from the best of each, all others at least 0.875 in one
    assert numbers(picked(study, NAMES, "knee"))[0] == 2
    assert numbers(picked(study, NAMES, "smallest")) == [3, 0], "fewest parameters within 0.01 of the best"
    assert numbers(picked(study, NAMES, "latency_ms<=8")) == [3, 2, 1]
    assert numbers(picked(study, NAMES, "latency_ms <= 8, auroc>=7.5e-1")) == [3, 2]
    assert numbers(picked(study, NAMES, "parameters<=50")) == [2, 1]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("kneee", "--pick: unknown rule 'kneee'; did you mean 'knee'?"),
        ("latency<=5", "--pick: unknown measure 'latency'; did you mean 'latency_ms'?"),
        ("auroc>=0.9", "no finished trial is left by the rule 'auroc>=0.9'"),
    ],
)
def test_rules_that_make_no_sense_are_one_line(rule: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        picked(study_of((0.8, 9.0)), NAMES, rule)
    assert str(raised.value) == text


def test_directions_of_objectives() -> None:
    assert not higher_is_better("latency_ms", "auroc")
    assert higher_is_better("worst_subgroup", "auroc")
    assert not higher_is_better("worst_subgroup", "brier")
    assert not higher_is_better("brier", "auroc")


@pytest.mark.parametrize(
    ("objectives", "limits", "text"),
    [
        (["latency"], {}, "search.objectives: unknown objective 'latency'; did you mean 'latency_ms'?"),
        ([], {"parameter": 5.0}, "search.limits: unknown limit 'parameter'; did you mean 'parameters'?"),
        ([], {"parameters": 0.0}, "search.limits.parameters must be more than 0; got 0"),
    ],
)
def test_objectives_that_do_not_exist(objectives: list[str], limits: dict[str, float], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_objectives(objectives, limits, list(METRICS))
    assert str(raised.value) == text


def test_the_sampler_prefers_what_is_within_limits() -> None:
    def share(limited: bool) -> float:
        study = optuna.create_study(sampler=make_sampler("tpe", 0, startup_trials=10))

        def objective(trial: optuna.Trial) -> float:
            x = trial.suggest_float("x", 0, 1)
            if limited:
                TrialHandle(trial, 0, lambda: False).over({"size": x - 0.5})  # low scores are over the limit of half
            return -x

        study.optimize(objective, n_trials=60)
        return float(np.mean([trial.params["x"] <= 0.5 for trial in study.get_trials()[20:]]))

    assert share(True) > share(False) + 0.2


# --- on patients ---


def config(small_folder: Path, runs: Path, **search: Any) -> StudyConfig:
    data: dict[str, Any] = {
        "name": "several",
        "runs": runs,
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 1, "batch_size": 32},
        "space": {"encoders": {"codes": "bag", "notes": ["bag", "none"]}, "fusion": ["late", "early"], "dim": [8, 16]},
        "search": {"trials": 5, "sampler": "nsga2", "pruner": "none", **search},
        "tracking": {"enabled": False},
    }
    found = parse_config(data)
    assert isinstance(found, StudyConfig)
    return found


def test_a_search_for_several_objectives(small_folder: Path, tmp_path: Path) -> None:
    names = ["parameters", "flops", "latency_ms", "memory_mb", "brier", "missing_modality", "worst_subgroup"]
    study_config = config(small_folder, tmp_path / "runs", objectives=names)
    result = run_search(study_config, workers=1, live=False)
    assert result.complete
    study = load_study(study_config)
    assert study.user_attrs["objectives"] == ["auroc", *names]
    for trial in candidates(study):
        found = dict(zip(["auroc", *names], trial.values, strict=True))
        assert found["parameters"] == trial.user_attrs["parameters"]
        assert found["flops"] > 1000
        assert 0 < found["latency_ms"] < 10_000
        assert found["missing_modality"] <= found["auroc"] + 0.5
    assert "best tuning auroc" in study_status(study_config)
    page = result.report.read_text(encoding="utf-8")
    assert "Pareto front" in page
    smallest = finalists(study, 1, rule="parameters<=1e9")[0][0]
    assert smallest.values[0] == max(trial.values[0] for trial in candidates(study))


def test_a_trial_over_a_limit_is_not_trained(small_folder: Path, tmp_path: Path) -> None:
    study_config = config(small_folder, tmp_path / "runs", limits={"parameters": 10.0}, trials=2)
    result = run_search(study_config, workers=1, live=False)
    assert result.best is None
    for trial in load_study(study_config).get_trials():
        assert trial.state == TrialState.PRUNED
        assert trial.user_attrs["pruned_by"].startswith("parameters ")
        assert trial.user_attrs["pruned_by"].endswith(", limit 10")
        assert "history" not in trial.user_attrs


def test_several_objectives_are_not_pruned(small_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several objectives cannot be pruned by one; write pruner: none"):
        config(small_folder, tmp_path, objectives=["parameters"], pruner="halving")


def test_groups_by_records_and_codes(small_folder: Path, tmp_path: Path) -> None:
    study_config = config(small_folder, tmp_path / "runs", objectives=["worst_subgroup"])
    store = open_store(study_config)
    plans = {plan.modality: plan for plan in preparations_of(study_space(study_config), study_config)}
    store.prepare(list(plans.values()))
    codes = pl.read_parquet(store.dataset.shards[0])["code"]
    sexes = sorted({each for each in codes.to_list() if each.startswith("GENDER//")})
    rows = store.cohort.rows("tuning")
    found = subgroups(store, rows, list(plans.values()), ["GENDER//"]).members
    assert all(len(here) == len(rows) and here.sum() >= 20 for here in found.values())
    assert sexes, "the synthetic patients have a sex"
    judge = make_judge(study_config, store)
    assert set(judge.groups.members) == {name for name in found if name.startswith("has ")}
