"""Trials that run together in one worker: one structure, a record each, and nobody is lost with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from toy_stack import Stacker, stack_engine
from toy_study import attempts, check_complete, journal, open_toy
from toy_trials import begin, run, spec  # noqa: F401 - a fixture

from experiments.supervise import supervise
from search.attempts import fail_lost
from search.pruning import root_of
from search.study import StudySpec, open_study
from search.trial import Ending, Interrupted, Pruned, Started, TrialFailed

RUNNING, COMPLETE, PRUNED, FAIL = TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def structure(trial: FrozenTrial) -> dict[str, object]:
    return {name: value for name, value in trial.params.items() if name != "training.lr"}


@pytest.fixture
def stacked(spec: StudySpec) -> StudySpec:
    return replace(spec, trials=7, stack=3)


def test_trials_of_one_structure_run_together(stacked: StudySpec) -> None:
    begin(stacked)
    stacker = Stacker()
    run(stacked, stacker)
    trials = open_study(stacked).get_trials()
    assert (stacker.groups, stacker.alone) == ([[0, 1, 2], [3, 4, 5]], [6]), "the last ticket has nobody to go with"
    assert [each.state for each in trials] == [COMPLETE] * 7
    for group in stacker.groups:
        members = [trials[number] for number in group]
        assert all(structure(each) == structure(members[0]) for each in members)
        assert len({each.params["training.lr"] for each in members}) == 3
        for each in members:
            assert (each.value, each.user_attrs["together"]) == (1 / (1 + each.number), group)
            assert [entry["epoch"] for entry in each.user_attrs["history"]] == [1, 2, 3]
            assert each.intermediate_values == dict.fromkeys((1, 2, 3), each.value)
            assert (each.user_attrs["root"], each.user_attrs["worker"]) == (each.number, "worker-0")
    assert len({each.user_attrs["seed"] for each in trials}) == 7
    assert len({str(structure(each)) for each in trials}) > 1


def test_an_open_budget_starts_trials_of_its_own(spec: StudySpec) -> None:
    opened = replace(spec, trials=None, total_epochs=9, stack=3)
    begin(opened)
    stacker = Stacker()
    run(opened, stacker)
    assert stacker.groups == [[0, 1, 2]]
    assert [each.state for each in open_study(opened).get_trials()] == [COMPLETE] * 3


def test_what_cannot_be_stacked_runs_alone(stacked: StudySpec) -> None:
    begin(stacked)
    stacker = Stacker(stacks=False)
    run(stacked, stacker)
    assert (stacker.groups, stacker.alone) == ([], list(range(7)))


def test_each_ends_in_its_own_way(stacked: StudySpec) -> None:
    ends: list[Ending] = [0.7, Pruned("not worth it"), TrialFailed("the loss is nan"), float("nan")]

    def answer(started: Started) -> Ending:
        return ends[started.trial.number]

    spec = replace(stacked, trials=4, stack=4)
    begin(spec)
    run(spec, Stacker(answer))
    trials = open_study(spec).get_trials()
    assert [each.state for each in trials] == [COMPLETE, PRUNED, FAIL, FAIL]
    assert [each.user_attrs.get("failure") for each in trials] == [None, None, "the loss is nan", "the score is nan"]


def test_one_that_is_pruned_leaves_and_the_others_go_on(stacked: StudySpec) -> None:
    spec = replace(stacked, trials=3, pruner="halving", first_rung=1, reduction=2)
    begin(spec)
    run(spec, Stacker())
    trials = open_study(spec).get_trials()
    assert Counter(each.state for each in trials) == {COMPLETE: 1, PRUNED: 2}
    assert [len(each.user_attrs["history"]) for each in trials] == [3, 1, 1]


def test_interrupted_together_they_go_on_alone(stacked: StudySpec) -> None:
    spec = replace(stacked, trials=3)
    begin(spec)
    interrupted = [True]

    def answer(started: Started) -> Ending:
        interrupted[0] = False
        return Interrupted("asked to stop")

    run(spec, Stacker(answer), stop=lambda: "" if interrupted[0] else "interrupt")
    trials = open_study(spec).get_trials()
    assert [each.state for each in trials] == [FAIL] * 3 + [TrialState.WAITING] * 3
    stacker = Stacker()
    run(spec, stacker)
    trials = open_study(spec).get_trials()
    assert (sorted(stacker.alone), stacker.groups) == ([3, 4, 5], [])
    assert sorted(root_of(each) for each in trials[3:]) == [0, 1, 2]
    for each in trials[3:]:
        first = trials[root_of(each)]
        assert (each.params, each.user_attrs["seed"]) == (first.params, first.user_attrs["seed"])


def test_what_ends_all_of_them_lets_each_run_again_alone(stacked: StudySpec) -> None:
    class Full(Stacker):
        def together(self, trials: object) -> list[Ending]:  # noqa: ARG002
            raise MemoryError

    spec = replace(stacked, trials=3)
    begin(spec)
    full = Full()
    run(spec, full)
    trials = open_study(spec).get_trials()
    assert [each.state for each in trials] == [FAIL] * 3 + [COMPLETE] * 3
    assert {each.user_attrs["failure"] for each in trials[:3]} == {"trained together: out of memory"}
    assert sorted(full.alone) == [3, 4, 5]


def test_a_trial_that_goes_on_takes_nobody_along(spec: StudySpec) -> None:
    class FullOnce(Stacker):
        def together(self, trials: Sequence[Started]) -> list[Ending]:
            found = super().together(trials)
            if len(self.groups) == 1:
                raise MemoryError
            return found

    opened = replace(spec, trials=None, total_epochs=18, stack=3)
    begin(opened)
    once = FullOnce(lambda _: Pruned("not worth it"))
    run(opened, once, stop=lambda: "interrupt" if len(once.alone) == 3 or len(once.groups) > 1 else "")
    assert (once.groups, once.alone) == ([[0, 1, 2]], [3, 4, 5])


def test_a_duplicate_among_them_is_not_trained(stacked: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.samplers.RandomSampler, "sample_independent", lambda *_: 1e-3)
    monkeypatch.setattr(Stacker, "may_differ", lambda *_: True)
    from toy_trials import SPACE

    from search.space import Space

    space = Space({"codes": {"bag": {}}}, {"late": {}}, 16, SPACE.training)
    spec = replace(stacked, trials=2)
    begin(spec)
    stacker = Stacker()
    run(spec, stacker, space=space)
    trials = open_study(spec).get_trials()
    assert stacker.groups == []
    assert stacker.alone == [0]
    assert all(each.state.is_finished() for each in trials)
    assert {each.user_attrs.get("duplicate_of") for each in trials[1:]} == {0}


def test_a_killed_worker_loses_none_of_those_that_ran_together(tmp_path: Path) -> None:
    study = open_toy(tmp_path, 5)
    ending = supervise(study, stack_engine(tmp_path, 5, 3), 1, on_tick=lambda _: None, poll_seconds=0.05)
    assert ending == "complete"
    check_complete(tmp_path, 5)
    lines = journal(tmp_path)
    first = lines[0]["roots"]
    assert len(first) == 3, "the first group, which was killed"
    again = Counter(line["root"] for line in lines if line["event"] == "alone" and line["attempt"] == 1)
    assert again == dict.fromkeys(first, 1), "each of them runs again once, alone"
    for root, each in attempts(tmp_path).items():
        assert [trial.user_attrs.get("failure") for trial in each] == ["its worker died"] * (root in first) + [None]


def test_trials_left_by_a_dead_worker_are_all_handed_back(stacked: StudySpec) -> None:
    class Dies(Stacker):
        def together(self, trials: object) -> list[Ending]:  # noqa: ARG002
            raise KeyboardInterrupt

    spec = replace(stacked, trials=3)
    begin(spec)
    with pytest.raises(KeyboardInterrupt):
        run(spec, Dies())
    study = open_study(spec)
    assert [each.state for each in study.get_trials()] == [FAIL, RUNNING, RUNNING]
    assert fail_lost(study, lambda _: True) == 2
    assert sum(each.state == TrialState.WAITING for each in study.get_trials()) == 2
