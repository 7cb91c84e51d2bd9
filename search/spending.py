"""What a study trained, and what it would have trained had no trial been cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.pruning import BUDGET, root_of

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Savings:
    """What trials trained, and what they would have trained had none been pruned; the latter is an estimate.

    Floating-point operations are None where an epoch did not say how many it took.
    """

    epochs: float
    seconds: float
    epochs_without: float
    seconds_without: float
    flops: float | None = None
    flops_without: float | None = None

    @property
    def unknown_flops(self) -> bool:
        """Whether some epoch did not say how many operations it took."""
        return self.epochs > 0 and self.flops is None

    def __str__(self) -> str:
        trained = _amount(self.epochs, self.seconds, self.flops)
        if self.epochs_without <= self.epochs:
            return trained
        spent, whole = self.epochs, self.epochs_without
        if self.flops is not None and self.flops_without:
            spent, whole = self.flops, self.flops_without  # what trials take differs; operations know by how much
        without = f"about {_amount(self.epochs_without, self.seconds_without, self.flops_without)} without pruning"
        return f"{trained} instead of {without}: {1 - spent / whole:.0%} saved"


def savings(trials: Sequence[FrozenTrial]) -> Savings:
    """Compare what a study trained, which is counted, with the same trials at full length, which nobody knows.

    A trial that was pruned, or still waits, is taken to go on to the epoch that complete trials got to on average,
    because patience would have ended it too; each epoch on all patients would take what its own did. One that the spent
    budget ended was not pruned.
    """
    histories = _histories(trials)
    complete = [len(history) for trial, history in histories if trial.state == TrialState.COMPLETE]
    usual = sum(complete) / len(complete) if complete else 0.0
    known = bool(histories) and all("flops" in entry for _, history in histories for entry in history)
    spent, more = np.zeros(3), np.zeros(3)
    for trial, history in histories:
        took = np.array([cost_of(history), _sum(history, "seconds"), _sum(history, "flops")])
        spent += took
        if trial.state == TrialState.PRUNED and trial.user_attrs.get("pruned_by") != BUDGET:
            more += max(0.0, usual - len(history)) * took / took[0]
    (epochs, seconds, flops), whole = spent.tolist(), (spent + more).tolist()
    return Savings(epochs, seconds, *whole[:2], *((flops, whole[2]) if known else ()))


def trained_epochs(trials: Sequence[FrozenTrial]) -> float:
    """Return how many epochs a study has trained; one on a share of the patients counts as that share."""
    return sum(cost_of(history) for _, history in _histories(trials))


def trained_flops(trials: Sequence[FrozenTrial]) -> float:
    """Return how many floating-point operations the epochs of a study took, of those that say so."""
    return sum(_sum(history, "flops") for _, history in _histories(trials))


def is_spent(trials: Sequence[FrozenTrial], epochs: float | None, flops: float | None) -> bool:
    """Tell whether a budget of all trials together is spent; None where it is another."""
    if epochs is not None and trained_epochs(trials) >= epochs:
        return True
    return flops is not None and trained_flops(trials) >= flops


def cost_of(history: History) -> float:
    """Return how many epochs on all training patients a history amounts to."""
    return sum(float(entry.get("share", 1.0)) for entry in history)


def _amount(epochs: float, seconds: float, flops: float | None) -> str:
    operations = f", {flops:.2e} FLOPs" if flops is not None else ""
    return f"{epochs:.0f} epochs ({seconds:.0f} s{operations})"


def _sum(history: History, name: str) -> float:
    return sum(float(entry.get(name, 0.0)) for entry in history)


def _histories(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, History]]:
    """Return the longest history of each root and whose it is: an epoch that several attempts report counts once."""
    found: dict[int, tuple[FrozenTrial, History]] = {}
    for each in trials:
        history = each.user_attrs.get("history", ())
        if history and len(history) >= len(found.get(root_of(each), (each, ()))[1]):
            found[root_of(each)] = each, history
    return list(found.values())
