"""A search end to end on real data and real training: budgets, reports, resuming, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from toy_search import first, preloaded, runs, study  # noqa: F401 - fixtures

from experiments.searching import SearchResult, run_search
from experiments.status import study_status
from experiments.studies import (
    finalists,
    load_study,
    public_settings,
    study_attributes,
    study_space,
    study_spec,
)
from experiments.workspace import open_store
from fusion.component import UsageError
from search.study import create_or_resume


def test_three_trials_on_two_workers(first: SearchResult, small_folder: Path, runs: Path) -> None:
    assert (first.ending, first.complete, first.problem) == ("complete", True, None)
    assert first.counts == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    trials = load_study(study(small_folder, runs)).get_trials()
    assert len(trials) == 3
    for trial in trials:
        attributes = trial.user_attrs
        assert trial.state == TrialState.COMPLETE
        assert [entry["epoch"] for entry in attributes["history"]] == [1, 2]
        assert trial.value == pytest.approx(max(entry["score"] for entry in attributes["history"]))
        assert attributes["architecture"]["dim"] == trial.params["dim"]
        assert attributes["training"] == {"lr": trial.params["training.lr"]}
        assert attributes["parameters"] > 0
        assert attributes["best_epoch"] in (1, 2)
    assert first.best is not None
    assert first.best.value == max(trial.value or 0 for trial in trials)
    assert list((runs / "small" / "checkpoints").iterdir()) == []  # finished trials need none


def test_what_the_user_sees(first: SearchResult, small_folder: Path, runs: Path) -> None:
    assert first.best is not None
    best = f"best tuning {first.metric} {first.best.value:.4f}: trial {first.best.number}, "
    shown = first.render().splitlines()
    assert shown[0] == "small: all trials done (3 complete)"
    assert shown[1].startswith(best)
    assert shown[2].startswith("trained 6 epochs (")
    assert shown[3] == f"report: {runs / 'small' / 'report.html'}"
    assert len(shown) == 4
    status = study_status(study(small_folder, runs)).splitlines()
    assert status == ["small: 3 complete", shown[1], f"3 of 3 trials; {shown[2]}"]
    html = first.report.read_text(encoding="utf-8")
    assert "small" in html
    assert f"{first.best.value:.4f}"[:5] in html
    assert (runs / "small" / "workers" / "worker-0.log").is_file()


def test_the_study_keeps_where_its_results_come_from(first: SearchResult, small_folder: Path, runs: Path) -> None:
    config = study(small_folder, runs)
    attributes = load_study(config).user_attrs
    assert attributes["metric"] == first.metric
    assert len(attributes["data_fingerprint"]) >= 16
    assert len(attributes["split_fingerprint"]) >= 16
    assert attributes["git_commit"]
    assert attributes["config"] == config.model_dump(mode="json")


def test_no_password_is_recorded(small_folder: Path, runs: Path) -> None:
    storage = "postgresql+psycopg://ann:secret@host:5432/studies?password=secret"
    tracking = {"uri": "http://ann:secret@host:5000"}
    config = study(small_folder, runs, search={"trials": 3, "storage": storage}, tracking=tracking)
    found = public_settings(config)
    assert "secret" not in str(found)
    assert found["search"]["storage"] == "postgresql+psycopg://host/studies"
    assert found["tracking"]["uri"] == "http://ann:***@host:5000"


def test_the_same_command_does_nothing_more_and_a_grown_budget_the_difference(
    first: SearchResult, small_folder: Path, runs: Path
) -> None:
    before = load_study(study(small_folder, runs)).get_trials()
    again = run_search(study(small_folder, runs), live=False)
    assert (again.ending, again.counts) == ("complete", first.counts)
    assert load_study(study(small_folder, runs)).get_trials() == before
    more = run_search(study(small_folder, runs, search={"trials": 5, "workers": 2}), live=False)
    assert more.counts == {"complete": 5, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    after = load_study(study(small_folder, runs)).get_trials()
    assert (len(after), after[:3]) == (5, before)
    assert len({trial.params["training.lr"] for trial in after}) == 5  # nothing is proposed twice
    ranked = finalists(load_study(study(small_folder, runs)), 2)
    assert [trial.value for trial, _ in ranked] == sorted((trial.value for trial in after), reverse=True)[:2]


def test_another_space_is_refused_and_fresh_starts_over(first: SearchResult, small_folder: Path, runs: Path) -> None:
    other = {"encoders": {"codes": "bag"}, "fusion": ["late", "early"], "dim": [8, 32]}
    changed = study(small_folder, runs, space=other, search={"trials": 1})
    count = len(load_study(changed).get_trials())
    with pytest.raises(UsageError) as caught:
        run_search(changed, live=False)
    assert str(caught.value) == (
        "study 'small' exists with another space (first difference: dim.choice); choose another name or say --fresh"
    )
    assert len(load_study(changed).get_trials()) == count
    fresh = run_search(changed, live=False, fresh=True)
    assert fresh.counts == {"complete": 1, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    [trial] = load_study(changed).get_trials()
    assert trial.params["dim"] in (8, 32)


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"training": {"epochs": 3, "batch_size": 32}}, "training.epochs"),
        ({"seed": 5}, "seed"),
    ],
    ids=["training", "seed"],
)
def test_trials_under_other_settings_are_not_mixed(
    small_folder: Path, tmp_path: Path, parts: dict[str, Any], place: str
) -> None:
    def start(**changed: Any) -> None:
        config = study(small_folder, tmp_path, **changed)
        space = study_space(config)
        store = open_store(config)
        create_or_resume(study_spec(config), study_attributes(config, space, store, "auroc"))

    start()
    start()
    with pytest.raises(UsageError) as caught:
        start(**parts)
    assert str(caught.value) == (
        f"study 'small' exists with other settings (first difference: {place}); choose another name or say --fresh"
    )


@pytest.mark.parametrize(
    ("space", "place", "problem"),
    [
        (
            {"training": {"lr": {"low": -0.1, "high": 0.1}}},
            "training.lr",
            ": Input should be greater than 0; got -0.1",
        ),
        (
            {"training": {"patience": [0, 3]}},
            "training.patience",
            ": Input should be greater than or equal to 1; got 0",
        ),
        (
            {"training": {"modality_dropout": 1.0}},
            "training.modality_dropout",
            ": Input should be less than 1; got 1.0",
        ),
        ({"dim": [2, 8]}, "dim", " must be at least 4; got 2"),
        ({"fusion": {"late": {"dropout": [0.1, 1.5]}}}, "fusion.late.dropout", " must be from 0 to 1; got 1.5"),
        (
            {"fusion": {"cross_attention": {"layers": {"low": 0, "high": 2}}}},
            "fusion.cross_attention.layers",
            " must be at least 1; got 0",
        ),
    ],
    ids=str,
)
def test_a_setting_that_every_trial_would_refuse_is_refused_at_once(
    small_folder: Path, runs: Path, space: dict[str, Any], place: str, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        study_space(study(small_folder, runs, space={"encoders": {"codes": "bag"}, **space}))
    assert str(caught.value) == f"space.{place}{problem}"
