"""Trials that would harm others: too long, hanging, with a lost GPU context, always crashing; none of them does."""

from __future__ import annotations

import itertools
import os
import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.trial import TrialState
from toy_search import study
from toy_study import attempts, drive, journal, open_toy, read, toy_engine, until

from experiments import supervise as supervise_module
from experiments.objective import make_objective
from experiments.studies import study_spec, worker_space
from experiments.supervise import _Crashes
from experiments.worker import POISONED
from search.failures import is_poisoned
from search.study import create_or_resume, summary, worker_loop

# time


def test_a_trial_that_takes_too_long_fails_with_the_reason_and_leaves_no_checkpoint(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 0.1)  # a tenth of a second passes whenever somebody looks
    monkeypatch.setattr("experiments.objective.time", SimpleNamespace(monotonic=lambda: next(clock)))
    training, search = {"epochs": 100, "batch_size": 32}, {"trials": 1, "pruner": "none", "trial_seconds": 2}
    config = study(small_folder, tmp_path, "long", training=training, search=search)
    settings, spec = config.model_dump(mode="json"), study_spec(config)
    created = create_or_resume(spec, {})
    created.enqueue_trial({})
    worker_loop(created, spec, worker_space(settings), make_objective(settings), "here", lambda: "")
    [trial] = created.get_trials()
    assert (trial.state, trial.user_attrs["failure"]) == (TrialState.FAIL, "longer than the 2 s a trial may take")
    assert len(trial.user_attrs["history"]) == 4  # of four batches each
    assert list((config.folder / "checkpoints").iterdir()) == []


def test_a_trial_that_hangs_is_ended_from_outside_and_no_other_is_disturbed(tmp_path: Path) -> None:
    """1 fault, no loss: 5 of 6 trials are complete, each in one attempt, the one that hangs is not run again."""
    ending = drive(tmp_path, 6, {"hang": [1]}, trial_seconds=3.0, grace_seconds=2.0)
    assert ending == "complete"
    roots = attempts(tmp_path)
    [late] = roots.pop(1)
    assert (late.state, late.user_attrs["failure"]) == (TrialState.FAIL, "longer than the 3 s a trial may take")
    assert [[trial.state for trial in each] for each in roots.values()] == [[TrialState.COMPLETE]] * 5
    assert Counter(line["root"] for line in journal(tmp_path) if line["event"] == "start") == dict.fromkeys(range(6), 1)


# a GPU context that is lost


def test_what_says_that_the_context_is_lost() -> None:
    class AcceleratorError(RuntimeError):
        pass

    assert is_poisoned(RuntimeError("CUDA error: device-side assert triggered"))
    assert is_poisoned(AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert not is_poisoned(AcceleratorError("CUDA error: out of memory"))
    assert not is_poisoned(RuntimeError("shapes do not match"))
    assert not is_poisoned(ValueError("CUDA error: "))


def test_a_worker_whose_context_is_lost_ends_with_its_own_code_after_it_said_why(tmp_path: Path) -> None:
    study = open_toy(tmp_path, 3)
    engine = toy_engine(tmp_path, 3, {"asserts": {"0": 1}})
    engine.start(0)
    ended: list[tuple[int, str, int]] = []

    until(lambda: ended.extend(engine.poll()) or ended)
    assert [code for _, _, code in ended] == [POISONED]
    first, *others = study.get_trials()
    assert first.state == TrialState.FAIL
    assert first.user_attrs["failure"] == "RuntimeError: CUDA error: device-side assert triggered"
    assert [trial.state for trial in others] == [TrialState.WAITING] * 3
    assert (others[-1].user_attrs["root"], others[-1].user_attrs["crashes"]) == (0, 1)
    assert "another takes its place" in (tmp_path / "workers" / "worker-0.log").read_text(encoding="utf-8")


def test_a_lost_context_costs_its_trial_a_second_attempt_and_no_other_trial_anything(tmp_path: Path) -> None:
    """3 faults: trial 2 loses the context once and is then complete, trial 4 twice and has failed for good."""
    assert drive(tmp_path, 6, {"asserts": {"2": 1, "4": 2}}) == "complete"
    roots = attempts(tmp_path)
    states = {root: [trial.state.name for trial in each] for root, each in roots.items()}
    once = ["COMPLETE"]
    assert states == {0: once, 1: once, 2: ["FAIL", "COMPLETE"], 3: once, 4: ["FAIL", "FAIL"], 5: once}
    reasons = {trial.user_attrs["failure"] for each in roots.values() for trial in each if trial.state.name == "FAIL"}
    assert reasons == {"RuntimeError: CUDA error: device-side assert triggered"}
    lines = journal(tmp_path)
    for root, attempt in ((2, 0), (4, 0), (4, 1)):
        [place] = [i for i, line in enumerate(lines) if (line["root"], line["attempt"]) == (root, attempt)]
        assert lines[place]["pid"] not in {line["pid"] for line in lines[place + 1 :]}, "it should have ended"


# a machine that is taken away


@pytest.mark.parametrize("told", [signal.SIGUSR2, signal.SIGTERM])
def test_a_worker_told_by_a_batch_system_hands_back_and_ends_well(told: signal.Signals, tmp_path: Path) -> None:
    """1 fault: what SLURM or Kubernetes sends ahead of time, to the worker alone; its trial goes on later, unblamed."""
    hold = tmp_path / "hold"
    hold.touch()
    study = open_toy(tmp_path, 1)
    engine = toy_engine(tmp_path, 1, {"hold": str(hold)})
    engine.start(0)
    until(lambda: journal(tmp_path))
    os.kill(journal(tmp_path)[0]["pid"], told)
    ended: list[tuple[int, str, int]] = []
    until(lambda: ended.extend(engine.poll()) or ended)
    assert [code for _, _, code in ended] == [0]
    first, second = study.get_trials()
    assert (first.state, first.user_attrs["failure"]) == (TrialState.FAIL, "interrupted")
    assert (second.state, second.user_attrs["crashes"]) == (TrialState.WAITING, 0)


# crashes without end


def test_a_storm_of_crashes_ends_the_search_with_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial kills its worker: after 3 crashes in a row nothing more is started, and what is left waits."""
    monkeypatch.setattr(supervise_module, "_CRASHES_ALLOWED", 2)
    assert drive(tmp_path, 30, {"poison": list(range(30))}) == "crashes"
    starts = [line for line in journal(tmp_path) if line["event"] == "start"]
    assert 3 <= len(starts) <= 5
    assert max(Counter(line["root"] for line in starts).values()) <= 2
    counts = summary(read(tmp_path))
    assert counts["running"] == counts["complete"] == 0
    assert sum(counts.values()) == 30


def test_crashes_between_which_trials_end_well_do_not_add_up() -> None:
    def trials(well: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(state=TrialState.COMPLETE)] * well

    crashes = _Crashes()
    for well, codes, row in ((0, [], 0), (0, [-9, -9], 2), (0, [1, 0], 3), (1, [], 0), (1, [-9], 1), (2, [75, -9], 2)):
        crashes.count(codes, trials(well))  # type: ignore[arg-type]
        assert crashes.in_a_row == row
