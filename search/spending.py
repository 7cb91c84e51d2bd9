"""What a study trained, and what it would have trained had no trial been cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from search.pruning import BUDGET, root_of

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Savings:
    """What trials trained, and what they would have trained had none been pruned; the latter is an estimate."""

    epochs: float
    seconds: float
    epochs_without: float
    seconds_without: float

    def __str__(self) -> str:
        trained = f"{self.epochs:.0f} epochs ({self.seconds:.0f} s)"
        if self.epochs_without <= self.epochs:
            return trained
        share = 1 - self.epochs / self.epochs_without
        whole = f"about {self.epochs_without:.0f} epochs ({self.seconds_without:.0f} s) without pruning"
        return f"{trained} instead of {whole}: {share:.0%} saved"


def savings(trials: Sequence[FrozenTrial]) -> Savings:
    """Compare what a study trained, which is counted, with the same trials at full length, which nobody knows.

    A trial that was pruned, or still waits, is taken to go on to the epoch that complete trials got to on average,
    because patience would have ended it too; each epoch on all patients would take what its own did. One that the spent
    budget ended was not pruned.
    """
    histories = _histories(trials)
    complete = [len(history) for trial, history in histories if trial.state == TrialState.COMPLETE]
    usual = sum(complete) / len(complete) if complete else 0.0
    epochs, seconds, more_epochs, more_seconds = 0.0, 0.0, 0.0, 0.0
    for trial, history in histories:
        cost, took = cost_of(history), sum(float(entry.get("seconds", 0.0)) for entry in history)
        epochs, seconds = epochs + cost, seconds + took
        if trial.state == TrialState.PRUNED and trial.user_attrs.get("pruned_by") != BUDGET:
            missed = max(0.0, usual - len(history))
            more_epochs, more_seconds = more_epochs + missed, more_seconds + missed * took / cost
    return Savings(epochs, seconds, epochs + more_epochs, seconds + more_seconds)


def trained_epochs(trials: Sequence[FrozenTrial]) -> float:
    """Return how many epochs a study has trained; one on a share of the patients counts as that share."""
    return sum(cost_of(history) for _, history in _histories(trials))


def cost_of(history: History) -> float:
    """Return how many epochs on all training patients a history amounts to."""
    return sum(float(entry.get("share", 1.0)) for entry in history)


def _histories(trials: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, History]]:
    """Return the longest history of each root and whose it is: an epoch that several attempts report counts once."""
    found: dict[int, tuple[FrozenTrial, History]] = {}
    for each in trials:
        history = each.user_attrs.get("history", ())
        if history and len(history) >= len(found.get(root_of(each), (each, ()))[1]):
            found[root_of(each)] = each, history
    return list(found.values())
