"""Duplicates: one key for equal candidates, nothing trained twice, tickets drawn anew, the best counted once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from toy_trials import (
    begin,
    run,
    spec,  # noqa: F401 - a fixture
    take,
)

from experiments.live import best_trial
from fusion.component import Architecture, Choice, Float, Spec
from search.analysis import component_scores
from search.duplicates import REDRAWS, find_twin, is_duplicate, is_exhausted
from search.evolution import EvolutionSampler
from search.objectives import candidates
from search.space import Candidate, Space
from search.study import StudySpec, finished, issue_tickets, open_study, summary
from search.trial import Pruned, TrialFailed, TrialHandle

FOUR = Space({"codes": {"bag": {}, "gru": {}}}, {"late": {}}, Choice(16, 32), {})


def key(encoders: dict[str, Spec], fusion: Spec, dim: int = 64, **training: Any) -> str:
    return Candidate(Architecture(encoders, fusion, dim), training).key


def test_defaults_and_order_do_not_distinguish_and_everything_else_does() -> None:
    codes, notes = Spec("transformer"), Spec("bag")
    plain = key({"codes": codes, "notes": notes}, Spec("early"))
    assert plain == key({"notes": notes, "codes": codes}, Spec("early"))
    written = Spec("transformer", {"layers": 1, "dropout": 0.1})
    assert plain == key({"codes": written, "notes": notes}, Spec("early")), "that is the default of a transformer"
    others = [
        key({"codes": Spec("transformer", {"layers": 3}), "notes": notes}, Spec("early")),
        key({"codes": codes}, Spec("early")),
        key({"codes": notes, "notes": codes}, Spec("early")),
        key({"codes": codes, "notes": notes}, Spec("late")),
        key({"codes": codes, "notes": notes}, Spec("early"), 32),
        key({"codes": codes, "notes": notes}, Spec("early"), lr=0.1),
    ]
    assert len({plain, *others}) == 7


def test_a_setting_that_changes_nothing_is_not_drawn() -> None:
    training = {"average_decay": Float(0.9, 0.99), "average": Choice("none", "ema", "swa")}
    needs = {"average_decay": ("average", ("ema",))}
    space = Space({"codes": {"bag": {}}}, {"late": {}}, 16, training, needs)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    found = [space.suggest(study.ask()) for _ in range(30)]
    keys = {(each.training["average"], "average_decay" in each.training, each.key) for each in found if each}
    assert {(average, drawn) for average, drawn, _ in keys} == {("none", False), ("ema", True), ("swa", False)}
    assert sum(average != "ema" for average, _, _ in keys) == 2, "all without a decay are one candidate a kind"


def trial(number: int, state: TrialState, **attributes: Any) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    made = create_trial(state=state, value=value, user_attrs={"key": "k", **attributes})
    made.number = number
    return made


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (trial(0, TrialState.COMPLETE), True),
        (trial(9, TrialState.COMPLETE), True),
        (trial(0, TrialState.RUNNING), True),
        (trial(9, TrialState.RUNNING), False),  # of two that run, the older root stays
        (trial(9, TrialState.WAITING, root=0, attempt=1), True),
        (trial(0, TrialState.PRUNED, pruned_by="halving"), True),
        (trial(0, TrialState.PRUNED, pruned_by="paused"), True),
        (trial(0, TrialState.PRUNED, pruned_by="budget"), False),
        (trial(0, TrialState.FAIL), False),
        (trial(0, TrialState.COMPLETE, duplicate_of=1), False),
        (trial(0, TrialState.COMPLETE, key="another"), False),
        (trial(9, TrialState.COMPLETE, root=5, attempt=1), False),  # itself
    ],
)
def test_who_is_a_twin_of_trial_5(other: FrozenTrial, found: bool) -> None:
    assert (find_twin([other, trial(5, TrialState.RUNNING)], "k", 5) is other) == found


def test_who_has_trained_is_nobodys_duplicate() -> None:
    mine = [trial(5, TrialState.FAIL, history=[{"epoch": 1}]), trial(9, TrialState.RUNNING, root=5, attempt=1)]
    assert find_twin([trial(0, TrialState.COMPLETE), *mine], "k", 5) is None


def test_nothing_is_trained_twice_and_tickets_are_drawn_anew(spec: StudySpec) -> None:
    spec = replace(spec, trials=3)
    trained: list[str] = []

    def objective(candidate: Candidate, handle: TrialHandle) -> float:
        trained.append(candidate.key)
        return float(candidate.architecture.dim)

    study = begin(spec)
    run(spec, objective, space=FOUR)
    trials = study.get_trials()
    assert len(trained) == len(set(trained)) == 3, "each ticket found a candidate of its own"
    assert len(trials) > 3, "although some were drawn twice"
    assert issue_tickets(study, 3) == 0
    assert finished(trials) == 3
    assert summary(trials)["duplicate"] == len(trials) - 3
    for each in filter(is_duplicate, trials):
        twin = trials[each.user_attrs["duplicate_of"]]
        assert (each.user_attrs["key"], each.values) == (twin.user_attrs["key"], twin.values)
        assert "history" not in each.user_attrs


def test_a_space_smaller_than_its_budget_ends(spec: StudySpec) -> None:
    spec = replace(spec, trials=9)
    study = begin(spec)
    run(spec, lambda candidate, _: float(candidate.architecture.dim), space=FOUR)
    trials = study.get_trials()
    assert all(each.state.is_finished() for each in trials)
    assert finished(trials) == 9
    assert len(trials) <= 9 * (1 + REDRAWS)
    assert sum(not is_duplicate(each) for each in trials) == 4
    assert len(candidates(study)) == 4, "the best are counted once"
    assert sum(count for place, _, count, _, _ in component_scores(trials, True) if place == "fusion") == 4
    best = best_trial([each for each in trials if is_duplicate(each)], True)
    assert best is None
    assert issue_tickets(study, 9) == 0


def test_an_open_budget_ends_when_nothing_is_new(spec: StudySpec) -> None:
    spec = replace(spec, trials=None, total_epochs=10**6)
    study = begin(spec)
    run(spec, lambda candidate, _: float(candidate.architecture.dim), space=FOUR)
    trials = study.get_trials()
    assert is_exhausted(trials)
    assert not is_exhausted(trials[:-1])
    assert sum(not is_duplicate(each) for each in trials) == 4
    assert not any(each.state == TrialState.WAITING for each in trials)


def test_a_cut_candidate_is_not_tried_again_and_a_failed_one_is(spec: StudySpec) -> None:
    spec = replace(spec, trials=12)
    begun: Counter[tuple[str, int]] = Counter()

    def objective(candidate: Candidate, handle: TrialHandle) -> float:
        name = candidate.architecture.encoders["codes"].name
        begun[name, candidate.architecture.dim] += 1
        raise Pruned("no good") if name == "bag" else TrialFailed("no luck")

    study = begin(spec)
    run(spec, objective, space=FOUR)
    assert {count for (name, _), count in begun.items() if name == "bag"} == {1}
    assert min(count for (name, _), count in begun.items() if name == "gru") > 1
    cut = [each for each in study.get_trials() if is_duplicate(each)]
    assert {(each.state, each.user_attrs["pruned_by"]) for each in cut} == {(TrialState.PRUNED, "duplicate")}


def test_a_worker_that_dies_between_note_and_ticket_loses_none(spec: StudySpec) -> None:
    study = begin(replace(spec, trials=1))
    first = take(study, duplicate_of=0, redrawn=True)  # and here it dies
    study._storage.set_trial_state_values(first._trial_id, TrialState.FAIL)
    assert issue_tickets(study, 1) == 1
    assert issue_tickets(study, 1) == 0


def test_duplicates_are_no_parents() -> None:
    study = optuna.create_study(sampler=EvolutionSampler(0, population=2, tournament=2, startup_trials=1))
    places = {"a": optuna.distributions.FloatDistribution(0, 1), "b": optuna.distributions.FloatDistribution(0, 1)}
    for value, attributes in ((1.0, {}), (0.0, {"duplicate_of": 0}), (0.5, {"limits": [0.2]})):
        study.add_trial(
            create_trial(value=value, params={"a": value, "b": value}, distributions=places, user_attrs=attributes)
        )
    child = study.ask()
    drawn = [child.suggest_float("a", 0, 1), child.suggest_float("b", 0, 1)]
    assert sum(each == 1.0 for each in drawn) == 1, "the only parent is trial 0, although it is the worst"


def test_two_workers_share_the_same_candidates(spec: StudySpec) -> None:
    """While one trains a candidate, another draws it: the second does not train it."""
    spec = replace(spec, trials=2)
    one = Space({"codes": {"bag": {}}}, {"late": {}}, 16, {})
    begin(spec)
    inside: list[int] = []

    def objective(candidate: Candidate, handle: TrialHandle) -> float:
        inside.append(handle.number)
        if len(inside) == 1:
            run(replace(spec), objective, slot=1, space=one)  # the other worker, meanwhile
        return 0.5

    run(spec, objective, space=one)
    trials = open_study(spec).get_trials()
    assert inside == [0]
    assert all(each.state.is_finished() for each in trials)
    assert {each.user_attrs.get("duplicate_of") for each in trials[1:]} == {0}
