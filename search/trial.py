"""What an objective sees of a trial, and the ways a trial can end early."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import optuna

from search.objectives import LIMITS
from search.pruning import PAUSED
from search.space import Candidate


class Interrupted(RuntimeError):
    """The trial was asked to stop and has a checkpoint: it is handed back and goes on later."""


class Pruned(RuntimeError):
    """The trial is not worth going on with."""


class Paused(Pruned):
    """The trial waits for more rivals to be beaten; its checkpoint is kept, and it may go on later."""


class TrialFailed(RuntimeError):
    """The trial cannot give a score; its text is the reason, and names no patient."""


class TrialHandle:
    """A running trial: where to report, and what its root, attempt and seed are.

    The root is the first attempt's number: attempts after a crash or an interruption share it, so that they find
    the same checkpoint and train with the same seed.
    """

    def __init__(
        self,
        trial: optuna.Trial,
        study_seed: int,
        stop: Callable[[], bool],
        is_spent: Callable[[], bool] = lambda: False,
        *,
        pruner: str = "halving",
        several: bool = False,
    ) -> None:
        self._trial, self._stop, self._is_spent, self._pruner, self._several = trial, stop, is_spent, pruner, several
        self.spent = False
        self.number = trial.number
        self.root = int(trial.user_attrs.get("root", trial.number))
        self.attempt = int(trial.user_attrs.get("attempt", 0))
        self.seed = int(np.random.SeedSequence([study_seed, self.root]).generate_state(1)[0])
        self.history: list[dict[str, float]] = []
        self._over: dict[str, float] = {}

    def report(self, epoch: int, score: float, metrics: Mapping[str, float]) -> None:
        """Record an epoch (counted from 1).

        Raises:
            TrialFailed: the score is not finite.
            Pruned: better trials make this one not worth going on with, for now or for good.
        """
        if not math.isfinite(score):
            raise TrialFailed(f"the score is {score} in epoch {epoch}")
        self.history.append({"epoch": epoch, "score": score, **metrics})
        self._trial.set_user_attr("history", self.history)
        self.spent = self._is_spent()
        if self._several:
            return  # Optuna prunes by one objective only
        self._trial.report(score, epoch)
        if self._trial.should_prune():
            pausing = self._pruner == "pausing"
            self.note(pruned_by=PAUSED if pausing else self._pruner)
            raise (Paused if pausing else Pruned)(f"ended after epoch {epoch}")

    def note(self, **attributes: Any) -> None:
        """Keep facts about the trial."""
        for name, value in attributes.items():
            self._trial.set_user_attr(name, value)

    def over(self, limits: Mapping[str, float]) -> None:
        """Say by how much the trial is over limits, at most 0 where it is within; samplers avoid what is over."""
        self._over |= limits
        self.note(**{LIMITS: list(self._over.values())})
        for name, value in limits.items():
            self._trial.set_constraint(name, value)

    def should_stop(self) -> bool:
        """Tell whether the trial must end now because the process or the budget ends.

        A budget in epochs is asked for after each epoch only, so that a trial whose last epoch spends it is complete.
        """
        return self.spent or self._stop()


Objective = Callable[[Candidate, TrialHandle], float | Sequence[float]]


Ending = float | Sequence[float] | Exception
"""The scores of a trial, or how it ended early."""


class Started(NamedTuple):
    """A trial that runs, and what it tries."""

    trial: optuna.Trial
    handle: TrialHandle
    candidate: Candidate


@runtime_checkable
class StackingObjective(Protocol):
    """An objective that can also run several trials of one structure together."""

    def __call__(self, candidate: Candidate, trial: TrialHandle) -> float | Sequence[float]:
        """Run one trial."""
        ...

    def may_differ(self, parameter: str) -> bool:
        """Tell whether trials that run together may differ in a parameter of the search."""
        ...

    def can_stack(self, candidate: Candidate) -> bool:
        """Tell whether trials of this structure can run together."""
        ...

    def together(self, trials: Sequence[Started]) -> Sequence[Ending]:
        """Run trials and return of each its scores, or how it ended early; raise only what ends all of them."""
        ...


def too_long(seconds: float) -> str:
    """Say why a trial that took longer than it may has failed."""
    return f"longer than the {seconds:g} s a trial may take"
