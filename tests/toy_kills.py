"""Studies whose workers are killed at random moments, and what became of their trials; also for benchmarks/kills.py."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from toy_study import attempts, journal, open_toy, toy_engine

from experiments.engine import LocalEngine
from experiments.supervise import supervise
from experiments.tracking.project import StudyTracker
from experiments.tracking.runs import connect, find_runs


@dataclass
class Counts:
    """What happened to a study; only the first three may be other than 0."""

    kills: int = 0
    trials: int = 0
    given_up: int = 0
    """Trials whose worker was killed twice, which are recorded as failed for that reason."""
    lost: int = 0
    doubled: int = 0
    over_budget: int = 0
    runs_missing: int = 0
    runs_left_running: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


@dataclass
class Killer:
    """Kills one worker after another, whatever it is doing, until `kills` are dead."""

    engine: LocalEngine
    kills: int
    dice: random.Random
    killed: list[int] = field(default_factory=list)

    def __call__(self, trials: Sequence[FrozenTrial]) -> None:
        """Kill, if another trial has begun since the last time, so that the search gets on."""
        begun = sum(trial.state != TrialState.WAITING for trial in trials)
        if len(self.killed) >= self.kills or begun <= len(self.killed) or not self.engine.running():
            return
        time.sleep(self.dice.random() * 0.2)
        pid = int(self.dice.choice(list(self.engine._processes.values()))[1].pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed.append(pid)


def kill_workers(folder: Path, *, trials: int, kills: int, workers: int, seed: int) -> Counts:
    """Run a toy study to its end while its workers are killed, with MLflow, and count."""
    study = open_toy(folder, trials)
    tracker = StudyTracker(connect(f"sqlite:///{folder}/mlflow.db", folder), "key", "toy")
    engine = toy_engine(folder, trials, {"epochs": 3, "epoch_seconds": 0.05})
    killer = Killer(engine, kills, random.Random(seed))

    def tick(found: Sequence[FrozenTrial]) -> None:
        tracker.sync(found)
        killer(found)

    assert supervise(study, engine, workers, on_tick=tick, poll_seconds=0.05) == "complete"
    assert tracker.finish(study.get_trials()), tracker.problem
    return _count(folder, trials, killer, tracker)


def _count(folder: Path, trials: int, killer: Killer, tracker: StudyTracker) -> Counts:
    counts = Counts(kills=len(killer.killed), trials=trials)
    roots = attempts(folder)
    counts.over_budget = abs(len(roots) - trials)
    for each in roots.values():
        *earlier, last = each
        complete = sum(trial.state == TrialState.COMPLETE for trial in each)
        given_up = last.user_attrs.get("failure") == "its worker died twice"
        counts.given_up += given_up
        counts.lost += complete == 0 and not given_up
        counts.doubled += complete > 1 or any(trial.state != TrialState.FAIL for trial in earlier)
    ends = Counter(line["root"] for line in journal(folder) if line["event"] == "end")
    # one that ended and was killed before it could say so goes on from its checkpoint, and ends again: no work is done
    counts.doubled += sum(1 for root, times in ends.items() if times > len(roots[root]))
    assert tracker.run_id is not None
    runs = find_runs(tracker.connection, "mlflow.parentRunId", tracker.run_id)
    counts.runs_missing = abs(len(runs) - sum(map(len, roots.values())))
    counts.runs_left_running = sum(run.info.status == "RUNNING" for run in runs)
    return counts
