"""A search end to end on real data and real training: budgets, reports, resuming, and what it refuses."""

from __future__ import annotations

import multiprocessing.forkserver
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from experiments.config import StudyConfig, parse_config
from experiments.objective import make_objective
from experiments.searching import SearchResult, run_search, study_status
from experiments.studies import (
    finalists,
    load_study,
    public_settings,
    study_attributes,
    study_space,
    study_spec,
    worker_space,
)
from experiments.workspace import open_store
from fusion.component import UsageError
from search.study import create_or_resume, issue_tickets, summary, worker_loop

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module", autouse=True)
def preloaded() -> Iterator[None]:
    """Let the process that forks the workers start anew, so that it loads torch and our code before it forks."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searching") / "runs"


def study(small_folder: Path, runs: Path, name: str = "small", **parts: Any) -> StudyConfig:
    """Return a study of bags of codes and notes, two epochs a trial, without tracking."""
    data = {
        "name": name,
        "seed": 4,
        "runs": runs,
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 2, "batch_size": 32},
        "space": {
            "encoders": {"codes": "bag", "notes": ["bag", "none"]},
            "fusion": ["late", "early"],
            "dim": [8, 16],
            "training": {"lr": {"low": 1e-3, "high": 1e-2, "log": True}},
        },
        "search": {"trials": 3, "workers": 2},
        "tracking": {"enabled": False},
        **parts,
    }
    config = parse_config(data)
    assert isinstance(config, StudyConfig)
    return config


@pytest.fixture(scope="module")
def first(small_folder: Path, runs: Path) -> SearchResult:
    return run_search(study(small_folder, runs), live=False)


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
    assert shown[2] == f"report: {runs / 'small' / 'report.html'}"
    assert len(shown) == 3
    assert study_status(study(small_folder, runs)).splitlines() == ["small: 3 complete", shown[1]]
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
    assert result.render().startswith("timed: the time is spent")
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
