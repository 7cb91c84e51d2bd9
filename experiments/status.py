"""How far a study is, read from its storage without starting anything."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import FrozenTrial, TrialState

from experiments.config import StudyConfig
from experiments.live import best_trial, describe
from experiments.studies import load_study
from search.identity import lives
from search.objectives import maximises
from search.spending import savings, trained_epochs, trained_flops
from search.study import finished, summary

_WAITING = "waiting"


def study_status(config: StudyConfig) -> str:
    """Say how many trials there are of each kind, the best so far and what is spent; whether anybody works on it.

    A trial whose worker is dead is lost, and not running, whatever the storage says; workers of other hosts are given
    the benefit of the doubt.
    """
    study = load_study(config)
    trials = study.get_trials(deepcopy=False)
    counts = summary(trials)
    lost = sum(map(is_lost, trials))
    counts = counts | {"running": counts["running"] - lost, "lost": lost}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    best = best_trial(trials, maximises(study))
    lines = [f"{config.name}: {shown or 'no trials yet'}"]
    if best is not None:
        lines.append(
            f"best tuning {study.user_attrs['metric']} {best.values[0]:.4f}: trial {best.number}, {describe(best)}"
        )
    lines.append(f"{_reached(config, study)}; trained {savings(trials)}")
    if study.user_attrs.get(_WAITING):
        lines.append(study.user_attrs[_WAITING])
    if counts["waiting"] + lost > 0 and counts["running"] == 0:
        lines.append(f"no trial runs at present; to go on: ehrfusion search {config.name}")
    return "\n".join(lines)


def note_waiting(study: optuna.Study, note: str) -> None:
    """Keep what hinders a study's workers where its status is read; empty if nothing does."""
    if study.user_attrs.get(_WAITING, "") != note:
        study.set_user_attr(_WAITING, note)


def is_lost(trial: FrozenTrial) -> bool:
    """Tell whether a trial is said to run and its worker, on this host, is dead."""
    worker = trial.user_attrs.get("worker")
    return trial.state == TrialState.RUNNING and worker is not None and not lives(worker)


def has_live_worker(trials: Sequence[FrozenTrial]) -> bool:
    """Tell whether somebody works on a study."""
    return any(trial.state == TrialState.RUNNING and not is_lost(trial) for trial in trials)


def epochs_budget(config: StudyConfig, study: optuna.Study) -> int | None:
    """Return a budget in epochs, less what a network of all architectures took of it."""
    if config.search.epochs is None:
        return None
    return config.search.epochs - int((study.user_attrs.get("supernet") or {}).get("epochs", 0))


def epochs_left(config: StudyConfig, study: optuna.Study) -> float | None:
    """Return what is left of a budget in epochs, None where the budget is another."""
    budget = epochs_budget(config, study)
    return None if budget is None else budget - trained_epochs(study.get_trials(deepcopy=False))


def seconds_left(config: StudyConfig, study: optuna.Study) -> float | None:
    """Return what is left of a budget in seconds, None where the budget is another."""
    if config.search.seconds is None:
        return None
    return config.search.seconds - float(study.user_attrs.get("spent_seconds", 0.0))


def _reached(config: StudyConfig, study: optuna.Study) -> str:
    """Say how much of the budget is spent."""
    search, trials = config.search, study.get_trials(deepcopy=False)
    if search.trials is not None:
        return f"{finished(trials)} of {search.trials} trials"
    if search.epochs is not None:
        before = search.epochs - (epochs_budget(config, study) or 0)
        return f"{before + trained_epochs(trials):.0f} of {search.epochs} epochs"
    if search.flops is not None:
        return f"{trained_flops(trials):.2e} of {search.flops:.2e} FLOPs"
    return f"{float(study.user_attrs.get('spent_seconds', 0.0)):.0f} of {search.seconds:.0f} s"
