"""Multi-fidelity by hand: rungs, pauses, promotions, and what pruning saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from toy_trials import (
    SPACE,
    spec,  # noqa: F401 - a fixture
)

from search.attempts import promote
from search.pruning import PAUSED, PausingPruner, make_pruner
from search.space import Candidate
from search.spending import savings, trained_epochs
from search.study import StudySpec, create_or_resume, issue_tickets, summary, worker_loop
from search.trial import TrialHandle

UP = StudyDirection.MAXIMIZE


def reported(
    root: int, scores: dict[int, float], state: TrialState = TrialState.RUNNING, **attributes: Any
) -> FrozenTrial:
    found = create_trial(
        state=state,
        value=max(scores.values()) if state == TrialState.COMPLETE else None,
        intermediate_values=scores,
        user_attrs={"root": root, **attributes},
    )
    found.number = root
    return found


def test_rungs_grow_by_the_reduction() -> None:
    pruner = PausingPruner(first_rung=3, reduction=2, epochs=24)
    assert [epoch for epoch in range(1, 30) if pruner.is_rung(epoch)] == [3, 6, 12]


def test_one_of_two_goes_on_and_ties_do_not_double() -> None:
    pruner = PausingPruner(3, 2, 27)
    trials = [reported(0, {3: 0.7}), reported(1, {3: 0.6}), reported(2, {3: 0.8}), reported(3, {2: 0.9})]
    assert pruner.best(trials, 3, UP) == {2}, "of three that got there, one"
    assert pruner.best([*trials, reported(3, {2: 0.9, 3: 0.9})], 3, UP) == {2, 3}
    assert pruner.best(trials, 3, StudyDirection.MINIMIZE) == {1}
    again = reported(2, {3: 0.8})  # a further attempt of the same root
    assert pruner.best([*trials, again], 3, UP) == {2}


def study_of(*trials: FrozenTrial) -> optuna.Study:
    study = optuna.create_study(direction="maximize", pruner=PausingPruner(3, 2, 27))
    study.add_trials(trials)
    return study


def test_a_paused_trial_is_promoted_when_it_has_beaten_enough() -> None:
    paused = [reported(i, {3: score}, TrialState.PRUNED, pruned_by=PAUSED) for i, score in enumerate((0.7, 0.6))]
    study = study_of(paused[0])
    assert promote(study) == 0, "one of one is not yet the better half"
    study = study_of(*paused)
    assert promote(study) == 1
    waiting = study.get_trials()[-1]
    assert (waiting.state, waiting.user_attrs["root"], waiting.user_attrs["attempt"]) == (TrialState.WAITING, 0, 1)
    assert promote(study) == 0, "nobody is promoted twice"


def test_what_was_pruned_for_good_is_never_promoted() -> None:
    lost = [reported(i, {3: 0.5 + i / 10}, TrialState.PRUNED, pruned_by="budget") for i in range(4)]
    assert promote(study_of(*lost)) == 0


def test_pruners_by_name() -> None:
    settings: dict[str, Any] = {"first_rung": 3, "reduction": 3, "epochs": 27}
    assert isinstance(make_pruner("none", **settings), optuna.pruners.NopPruner)
    assert isinstance(make_pruner("halving", **settings), optuna.pruners.SuccessiveHalvingPruner)
    assert make_pruner("pausing", **settings) == PausingPruner(3, 3, 27)
    hyperband = make_pruner("hyperband", **settings)
    assert isinstance(hyperband, optuna.pruners.HyperbandPruner)


def test_hyperband_cuts_in_brackets() -> None:
    pruner = make_pruner("hyperband", first_rung=1, reduction=3, epochs=9)
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(0), direction="maximize")
    lengths = []
    for number in range(30):
        trial = study.ask()
        for epoch in range(1, 10):
            trial.report(number % 7, epoch)
            if trial.should_prune():
                break
        lengths.append(epoch)
        study.tell(trial, 1.0)
    assert {1, 9} <= set(lengths)


def test_savings_by_hand() -> None:
    def trained(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds": each} for each in seconds]

    trials = [
        reported(0, {4: 1.0}, TrialState.COMPLETE, history=trained(1, 1, 1, 1)),
        reported(1, {2: 1.0}, TrialState.COMPLETE, history=trained(2, 2)),
        reported(2, {1: 1.0}, TrialState.PRUNED, history=trained(5)),
        reported(3, {1: 0.9}, TrialState.PRUNED, history=trained(1), pruned_by=PAUSED),
        reported(3, {2: 0.9}, TrialState.PRUNED, history=trained(1, 1)),  # went on: its first epoch counts once
    ]
    found = savings(trials)
    # complete trials took 3 epochs on average: trial 2 missed two of 5 s, trial 3 missed one of 1 s
    assert (found.epochs, found.seconds) == (4 + 2 + 1 + 2, 4 + 4 + 5 + 2)
    assert (found.epochs_without, found.seconds_without) == (9 + 3, 15 + 11)
    assert str(found) == "9 epochs (15 s) instead of about 12 epochs (26 s) without pruning: 25% saved"
    assert trained_epochs(trials) == 9
    assert savings([]).epochs == 0


def test_paused_trials_go_on_from_their_checkpoints_and_no_epoch_is_trained_twice(spec: StudySpec) -> None:
    spec = replace(spec, pruner="pausing", first_rung=1, reduction=2, epochs=4, trials=6)
    study = create_or_resume(spec, {})
    issue_tickets(study, 6)
    scores = [0.9, 0.1, 0.2, 0.8, 0.3, 0.7]
    checkpoints: dict[int, int] = {}
    trained: list[tuple[int, int]] = []

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        for epoch in range(1, 5):
            if epoch > checkpoints.get(trial.root, 0):
                trained.append((trial.root, epoch))
                checkpoints[trial.root] = epoch
            trial.report(epoch, scores[trial.root] + epoch / 100, {})
        return scores[trial.root]

    rounds = 0
    while True:
        worker_loop(study, spec, SPACE, objective, "w", lambda: "")
        if not promote(study):
            break
        rounds += 1
    assert rounds >= 1
    assert len(trained) == len(set(trained)), "no epoch twice"
    longest = {root: max(epoch for each, epoch in trained if each == root) for root in range(6)}
    assert longest[0] == 4, "the best was the first to be paused, and still goes to the end"
    assert longest[4] == 1, "who is not among the better half waits at the first rung"
    assert summary(study.get_trials())["complete"] == sum(epoch == 4 for epoch in longest.values())
