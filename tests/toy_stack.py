"""A study whose trials cost nothing and can run together; the module is also what its workers load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from toy_study import _write, study_spec, toy_engine

from experiments.engine import LocalEngine
from search.space import Candidate
from search.trial import Ending, Started, TrialHandle


class Stacker:
    """Trials of three epochs that report 1 / trial number; remembers who ran with whom."""

    def __init__(self, answer: Callable[[Started], Ending] | None = None, stacks: bool = True) -> None:
        self.answer, self.stacks = answer or self.train, stacks
        self.groups: list[list[int]] = []
        self.alone: list[int] = []

    def __call__(self, _: Candidate, trial: TrialHandle) -> float:
        self.alone.append(trial.number)
        return self._epochs(trial)

    def may_differ(self, parameter: str) -> bool:
        return parameter == "training.lr"

    def can_stack(self, _: Candidate) -> bool:
        return self.stacks

    def together(self, trials: Sequence[Started]) -> list[Ending]:
        self.groups.append([each.trial.number for each in trials])
        return [self.answer(each) for each in trials]

    def train(self, started: Started) -> Ending:
        try:
            return self._epochs(started.handle)
        except Exception as end:
            return end

    def _epochs(self, trial: TrialHandle) -> float:
        for epoch in range(1, 4):
            trial.report(epoch, 1 / (1 + trial.number), {"seconds": 1.0})
        return 1 / (1 + trial.number)


class Journal(Stacker):
    """Writes into a folder what runs, and kills its worker the first time that trials run together."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.folder = Path(settings["folder"])

    def __call__(self, candidate: Candidate, trial: TrialHandle) -> float:
        about = {"root": trial.root, "attempt": trial.attempt, "candidate": candidate.to_dict()}
        _write(self.folder, {"event": "alone", **about})
        return float(trial.root)

    def together(self, trials: Sequence[Started]) -> list[Ending]:
        _write(self.folder, {"event": "together", "roots": [each.handle.root for each in trials]})
        flag = self.folder / "killed"
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [float(each.handle.root) for each in trials]


def make_objective(settings: Mapping[str, Any]) -> Journal:
    """Return the objective of a worker."""
    return Journal(settings)


def stack_engine(folder: Path, trials: int, stack: int) -> LocalEngine:
    """Return an engine whose workers run so many trials of the toy study together."""
    engine = toy_engine(folder, trials, {})
    study = replace(study_spec(folder, trials), stack=stack).to_dict()
    return LocalEngine(replace(engine.spec, study=study, objective="toy_stack:make_objective"), engine.preload)
