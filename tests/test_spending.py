"""Budgets in epochs and what pruning saved: exact for one worker, also when resumed; nothing is trained twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from toy_search import preloaded, study  # noqa: F401 - a fixture
from toy_study import open_toy, toy_engine
from toy_trials import (
    begin,
    run,
    spec,  # noqa: F401 - a fixture
)

from experiments import supervise as supervise_module
from experiments.live import LiveView
from experiments.loop import Run
from experiments.objective import make_objective
from experiments.searching import run_search
from experiments.status import study_status
from experiments.studies import load_study, study_spec, worker_space
from experiments.supervise import _restart, supervise
from search.attempts import continue_stopped, promote
from search.pruning import is_paused, last_attempts, root_of
from search.space import Candidate
from search.spending import cost_of, savings, trained_epochs
from search.study import StudySpec, create_or_resume, issue_tickets, open_study, summary, worker_loop
from search.trial import Interrupted, Objective, TrialHandle


class Trainer:
    """Trials of three epochs with checkpoints, which remember what was trained."""

    def __init__(self, epochs: int = 3) -> None:
        self.epochs, self.kept, self.trained = epochs, dict[int, int](), list[tuple[int, int]]()

    def __call__(self, _: Candidate, trial: TrialHandle) -> float:
        for epoch in range(1, self.epochs + 1):
            if epoch > self.kept.get(trial.root, 0):
                if trial.should_stop():
                    raise Interrupted("asked to stop")
                self.trained.append((trial.root, epoch))
                self.kept[trial.root] = epoch
            trial.report(epoch, 0.5, {"seconds": 2.0})
        return 0.5


def test_a_budget_in_epochs_is_exact_and_ends_cleanly(spec: StudySpec) -> None:
    spec, trainer = replace(spec, trials=None, total_epochs=7), Trainer()
    begin(spec)
    run(spec, trainer)
    trials = open_study(spec).get_trials()
    assert len(trainer.trained) == trained_epochs(trials) == 7
    assert [each.state for each in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED]
    assert trials[-1].user_attrs["pruned_by"] == "budget"
    run(spec, trainer)
    assert len(open_study(spec).get_trials()) == 3, "the same budget again is spent already"


def test_a_trial_whose_last_epoch_spends_the_budget_is_complete(spec: StudySpec) -> None:
    spec, trainer = replace(spec, trials=None, total_epochs=6), Trainer()
    begin(spec)
    run(spec, trainer)
    assert [each.state for each in open_study(spec).get_trials()] == [TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_larger_budget_goes_on_with_what_the_smaller_stopped(spec: StudySpec) -> None:
    spec, trainer = replace(spec, trials=None, total_epochs=7), Trainer()
    begin(spec)
    run(spec, trainer)
    more = replace(spec, total_epochs=11)
    assert continue_stopped(open_study(more)) == 1
    assert continue_stopped(open_study(more)) == 0, "nobody goes on twice"
    run(more, trainer)
    trials = open_study(more).get_trials()
    assert len(trainer.trained) == len(set(trainer.trained)) == trained_epochs(trials) == 11
    assert [root_of(each) for each in trials] == [0, 1, 2, 2, 4]
    assert (trials[3].state, trials[3].user_attrs["attempt"]) == (TrialState.COMPLETE, 1)
    assert summary(trials) == {"complete": 3, "pruned": 1, "failed": 0, "running": 0, "waiting": 0}


def reported(root: int, state: TrialState, *history: dict[str, float], **attributes: Any) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    attributes |= {"root": root, "history": list(history)}
    return create_trial(state=state, value=value, user_attrs=attributes)


def test_an_epoch_on_a_share_counts_as_that_share() -> None:
    part, whole = {"share": 0.25, "seconds": 1.0}, {"seconds": 4.0}
    assert cost_of([part, part, whole]) == 1.5
    trials = [
        reported(0, TrialState.COMPLETE, part, part, whole, whole),
        reported(1, TrialState.PRUNED, part, part, pruned_by="halving"),
        reported(2, TrialState.PRUNED, part, pruned_by="budget"),
    ]
    found = savings(trials)
    assert (found.epochs, found.seconds) == (2.5 + 0.5 + 0.25, 10 + 2 + 1)
    # trial 1 missed two epochs on all patients, 4 s each, as its own seconds a whole epoch; trial 2 was not pruned
    assert (found.epochs_without, found.seconds_without) == (3.25 + 2, 13 + 8)
    assert str(savings(trials[:1])) == "2 epochs (10 s)", "nothing was saved"


def test_a_search_by_epochs(small_folder: Path, tmp_path: Path) -> None:
    config = study(small_folder, tmp_path, "epochs", search={"epochs": 7, "workers": 2, "pruner": "none"})
    result = run_search(config, live=False)
    assert result.ending == "budget"
    assert result.render().splitlines()[0].startswith("epochs: the budget is spent (")
    trials = load_study(config).get_trials()
    trained = trained_epochs(trials)
    assert 7 <= trained <= 8, "two workers: one epoch may be under way when the other spends the budget"
    assert all(each.state.is_finished() for each in trials)
    assert f"{trained:.0f} of 7 epochs; trained {trained:.0f} epochs (" in study_status(config)
    assert run_search(config, live=False).ending == "budget"
    assert len(load_study(config).get_trials()) == len(trials)


def test_a_search_that_pauses_on_shares(small_folder: Path, tmp_path: Path) -> None:
    search = {"trials": 6, "workers": 2, "pruner": "pausing", "first_rung": 1, "reduction": 2, "fractions": [0.5]}
    training = {"epochs": 4, "batch_size": 32, "patience": 9}
    config = study(small_folder, tmp_path, "pausing", search=search, training=training)
    result = run_search(config, live=False)
    assert result.complete
    trials = load_study(config).get_trials()
    last = last_attempts(trials)
    paused = {root for root, each in last.items() if is_paused(each)}
    assert result.counts["paused"] == len(paused) > 0
    kept = {int(path.name.split(".")[0]) for path in (config.folder / "checkpoints").iterdir()}
    assert kept == paused, "checkpoints of those that may still go on, and no others"
    for root, each in last.items():
        history = each.user_attrs["history"]
        assert [entry["epoch"] for entry in history] == list(range(1, len(history) + 1))
        assert [entry.get("share", 1.0) for entry in history] == [0.5, 1.0, 1.0, 1.0][: len(history)]
        earlier = [other.user_attrs["history"] for other in trials if root_of(other) == root]
        assert all(history[: len(other)] == other for other in earlier), "each attempt goes on where the last one was"
    assert promote(open_study(study_spec(config))) == 0, "nobody who made the cut is left waiting"
    assert result.savings.epochs < result.savings.epochs_without
    assert f"instead of about {result.savings.epochs_without:.0f} epochs" in result.render()


def second_is_worse(objective: Objective) -> Objective:
    """Let trial 1 report less than it has, so that trial 0, paused for want of rivals, makes the cut."""

    def run_worse(candidate: Candidate, trial: TrialHandle) -> Any:
        report = trial.report
        if trial.root == 1:
            trial.report = lambda epoch, score, metrics: report(epoch, score - 1, metrics)  # type: ignore[method-assign]
        return objective(candidate, trial)

    return run_worse


def test_a_promoted_trial_ends_like_one_that_was_never_paused(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, trained = {}, Counter[str]()
    real_epoch = Run.epoch

    def epoch(run: Run, should_stop: Any) -> dict[str, float]:
        trained[pruner] += 1
        return real_epoch(run, should_stop)

    monkeypatch.setattr(Run, "epoch", epoch)
    for pruner in ("pausing", "halving"):
        search = {"trials": 2, "pruner": pruner, "first_rung": 2, "reduction": 2, "fractions": [0.5]}
        training = {"epochs": 4, "batch_size": 32, "patience": 9}
        config = study(small_folder, tmp_path, pruner, search=search, training=training)
        settings = config.model_dump(mode="json")
        created = create_or_resume(study_spec(config), {})
        issue_tickets(created, 2)
        rounds = []
        while not rounds or promote(created):
            objective, space = make_objective(settings), worker_space(settings)
            worker_loop(created, study_spec(config), space, second_is_worse(objective), "here", lambda: "")
            rounds.append(summary(created.get_trials()))
        root = [each for each in created.get_trials() if root_of(each) == 0]
        entries = [{**entry, "seconds": 0} for entry in root[-1].user_attrs["history"]]
        found[pruner] = (root[-1].state, root[-1].values, entries)
        if pruner == "pausing":
            assert [each.user_attrs.get("pruned_by") for each in root] == ["paused", None]
            assert rounds[0]["paused"] == 2
            assert rounds[1] == {"complete": 1, "pruned": 0, "failed": 0, "running": 0, "waiting": 0, "paused": 1}
    assert found["pausing"] == found["halving"]
    assert len(found["pausing"][2]) == 4
    assert trained["pausing"] == 4 + 2, "no epoch of either trial was trained twice"


class Fake:
    """An engine that only remembers whom it started."""

    def __init__(self) -> None:
        self.started: list[int] = []

    def start(self, slot: int) -> None:
        self.started.append(slot)


def waiting(count: int) -> list[FrozenTrial]:
    return [create_trial(state=TrialState.WAITING) for _ in range(count)]


def test_idle_workers_are_started_again_when_a_trial_is_promoted() -> None:
    engine: Any = Fake()
    idle = {0, 1, 2}
    _restart(engine, idle, waiting(0), set())
    assert engine.started == []
    _restart(engine, idle, waiting(2), set())
    assert (engine.started, idle) == ([0, 1], {2})
    _restart(engine, idle, waiting(0), {2})
    assert (engine.started, idle) == ([0, 1, 2], set()), "a crashed one goes on with an open budget"


def test_promotions_are_made_under_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    inside = [False]

    class Lock:
        def __enter__(self) -> None:
            inside[0] = True

        def __exit__(self, *_: object) -> None:
            inside[0] = False

    monkeypatch.setattr(supervise_module, "promote", lambda _: held.append(inside[0]))
    toy = open_toy(tmp_path, 2)
    ending = supervise(toy, toy_engine(tmp_path, 2, {}), 1, on_tick=lambda _: None, poll_seconds=0.05, promoting=Lock())
    assert ending == "complete"
    assert held
    assert all(held)


def test_the_view_of_a_budget_in_epochs() -> None:
    view = LiveView("demo", "auroc", True, None, None, 20, enabled=False)
    trials = [reported(0, TrialState.COMPLETE, *[{"seconds": 1.0}] * 5)]
    view.update(trials)
    assert (view.total, view.reached(trials), view.reached_before) == (20, 5, 5)
    assert view.time_left(5) is None
    assert view.time_left(10) is not None
