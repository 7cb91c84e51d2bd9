"""Budgets, interruptions and two drivers of one search."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState
from toy_search import first, preloaded, runs, study  # noqa: F401 - fixtures

from experiments.objective import make_objective
from experiments.searching import SearchResult, run_search
from experiments.status import study_status
from experiments.studies import (
    load_study,
    study_spec,
    worker_space,
)
from fusion.component import UsageError
from search.study import create_or_resume, issue_tickets, summary, worker_loop

HERE = Path(__file__).resolve().parent


def test_a_budget_cannot_shrink(first: SearchResult, small_folder: Path, runs: Path) -> None:
    config = study(small_folder, runs, "shrinking", search={"trials": 4})
    created = create_or_resume(study_spec(config), {})
    assert issue_tickets(created, 4) == 4
    with pytest.raises(UsageError) as caught:
        issue_tickets(created, 2)
    assert str(caught.value) == (
        "study 'shrinking' was given 4 trials, now search.trials is 2; a budget can grow, not shrink: choose another "
        "name or say --fresh"
    )


def test_a_budget_in_seconds_is_spent_once(small_folder: Path, runs: Path) -> None:
    config = study(small_folder, runs, "timed", search={"seconds": 3, "workers": 2})
    result = run_search(config, live=False)
    assert result.ending == "budget"
    assert result.render().startswith("timed: the budget is spent")
    assert load_study(config).user_attrs["spent_seconds"] >= 3
    before = load_study(config).get_trials()
    assert all(trial.state.is_finished() for trial in before)
    assert run_search(config, live=False).ending == "budget"
    assert load_study(config).get_trials() == before


def test_never_started(small_folder: Path, runs: Path) -> None:
    with pytest.raises(UsageError) as caught:
        study_status(study(small_folder, runs, "unheard-of"))
    assert str(caught.value) == "study 'unheard-of' was not started yet; run: ehrfusion search unheard-of"
    assert not (runs / "unheard-of").exists()


def test_an_interrupted_trial_ends_with_the_score_of_an_uninterrupted_one(small_folder: Path, tmp_path: Path) -> None:
    """Two workers in this process: one is asked to stop in the second of three epochs, another goes on."""
    scores, asks = {}, {}
    for name, interrupted in (("whole", False), ("broken", True)):
        config = study(small_folder, tmp_path, name, training={"epochs": 3, "batch_size": 32}, search={"trials": 1})
        settings = config.model_dump(mode="json")
        objective, space, spec = make_objective(settings), worker_space(settings), study_spec(config)
        created = create_or_resume(spec, {})
        created.enqueue_trial({"encoders.notes": "bag", "fusion": "early", "dim": 16, "training.lr": 4e-3})
        asked = {"count": 0, "limit": 6 if interrupted else 10**6}  # four batches an epoch

        def stop(asked: dict[str, int] = asked) -> str:
            asked["count"] += 1
            return "interrupt" if asked["count"] > asked["limit"] else ""

        worker_loop(created, spec, space, objective, "here", stop)
        asked["limit"] = 10**6
        if interrupted:
            assert summary(created.get_trials())["waiting"] == 1
            assert len(list((config.folder / "checkpoints").iterdir())) == 1
            asked["count"] = 0
            worker_loop(created, spec, space, objective, "there", stop)
            assert len(created.get_trials()) == 2
        last = created.get_trials()[-1]
        assert last.state == TrialState.COMPLETE
        entries = [{**entry, "seconds": 0} for entry in last.user_attrs["history"]]
        asks[name] = asked["count"]
        scores[name] = (last.value, entries, last.user_attrs["best_epoch"])
    assert scores["whole"] == scores["broken"]
    assert asks == {"whole": 2 + 3 * 4, "broken": 2 + 2 * 4}  # asked before each trial and batch; one epoch was kept


def test_two_drivers_started_at_once_share_one_budget(small_folder: Path, tmp_path: Path) -> None:
    config = study(small_folder, tmp_path / "runs", "both", search={"trials": 4, "workers": 1, "pruner": "none"})
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    command = [sys.executable, "-m", "experiments.cli", "search", str(path)]
    drivers = [
        subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    for each in drivers:
        output, _ = each.communicate(timeout=120)
        assert each.returncode == 0, output
    trials = load_study(config).trials
    assert summary(trials) == {"complete": 4, "pruned": 0, "failed": 0, "running": 0, "waiting": 0}
    assert len({trial.user_attrs["root"] for trial in trials}) == len(trials) == 4
