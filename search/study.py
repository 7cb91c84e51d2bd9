"""A study: one total budget, trials that are handed back when their worker stops or dies, and the loop of a worker."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from fusion.component import UsageError
from search.attempts import hand_back, hand_back_crashed, is_root
from search.duplicates import find_twin, is_duplicate, is_exhausted, record_duplicate
from search.failures import Poisoned, failure_text, is_poisoned, quotes_data
from search.pruning import BUDGET, is_paused, last_attempts, make_pruner, root_of
from search.same_study import check_same, forget
from search.samplers import make_sampler
from search.space import Space
from search.spending import is_spent
from search.stacking import Group, StackFailed
from search.storage import STORAGE_ERRORS, BudgetSpent, open_storage
from search.tickets import TicketStudy
from search.trial import Interrupted, Objective, Pruned, StackingObjective, Started, TrialFailed, TrialHandle


@dataclass(frozen=True)
class StudySpec:
    """What every process needs to take part in a study; plain data.

    `more` are the directions of further objectives, `epochs` the most that one trial trains, `stack` how many trials of
    one structure a worker runs together; `trials`, `total_epochs` and `total_flops` are the budget, if it is in them.
    """

    name: str
    storage: str
    direction: Literal["minimize", "maximize"]
    seed: int
    more: tuple[Literal["minimize", "maximize"], ...] = ()
    sampler: str = "tpe"
    group: bool = False
    startup_trials: int = 10
    pruner: str = "halving"
    first_rung: int = 3
    reduction: int = 3
    epochs: int = 27
    trials: int | None = None
    total_epochs: int | None = None
    total_flops: float | None = None
    stack: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


def pruner_of(spec: StudySpec) -> optuna.pruners.BasePruner:
    """Return the pruner of a study."""
    return make_pruner(spec.pruner, first_rung=spec.first_rung, reduction=spec.reduction, epochs=spec.epochs)


def open_study(spec: StudySpec, *, slot: int = 0) -> optuna.Study:
    """Open an existing study with a sampler whose seed is this worker's own.

    Raises:
        UsageError: the storage does not answer or has no such study.
    """
    storage = open_storage(spec.storage, tickets_only=spec.trials is not None, on_stale=hand_back_crashed)
    try:
        study = TicketStudy(spec.name, storage, pruner=pruner_of(spec))
    except KeyError:
        raise UsageError(f"there is no study '{spec.name}' in its storage; start it with: ehrfusion search") from None
    # resumed or restarted workers must not propose what they proposed before; tickets were not proposed yet
    started = sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))
    seed = int(np.random.SeedSequence([spec.seed, slot, started]).generate_state(1)[0])
    study.sampler = make_sampler(spec.sampler, seed, startup_trials=spec.startup_trials, group=spec.group)
    return study


def create_or_resume(spec: StudySpec, attributes: Mapping[str, Any], *, fresh: bool = False) -> optuna.Study:
    """Create a study, or open it if it is the same: same space, same data, same direction.

    Raises:
        UsageError: a study of this name exists with another space, settings, data, splits or metric, or is at work.
    """
    storage = open_storage(spec.storage, tickets_only=spec.trials is not None, on_stale=hand_back_crashed)
    try:
        names = optuna.get_all_study_names(storage)
        if fresh and spec.name in names:
            forget(optuna.load_study(study_name=spec.name, storage=storage))
        elif spec.name in names:
            check_same(optuna.load_study(study_name=spec.name, storage=storage), attributes)
        study = optuna.create_study(
            study_name=spec.name,
            storage=storage,
            directions=[spec.direction, *spec.more],
            load_if_exists=True,
            pruner=pruner_of(spec),
        )
        known = study.user_attrs
        for name, value in attributes.items():
            if name not in known:
                study.set_user_attr(name, value)
        _name_objectives(study, attributes.get("objectives", ()))
    finally:
        storage.close()
    return open_study(spec)


def _name_objectives(study: optuna.Study, names: Sequence[str]) -> None:
    """Let Optuna's pictures and optuna-dashboard call the objectives what we call them."""
    if names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(names))


def issue_tickets(study: optuna.Study, trials: int) -> int:
    """Add WAITING trials until the study has had `trials` roots; return how many were added.

    Raises:
        UsageError: the study was given more before.
    """
    had = sum(1 for trial in study.get_trials(deepcopy=False) if is_root(trial))
    if had > trials:
        raise UsageError(
            f"study '{study.study_name}' was given {had} trials, now search.trials is {trials}; a budget can grow, "
            "not shrink: choose another name or say --fresh"
        )
    for _ in range(trials - had):
        study.add_trial(create_trial(state=TrialState.WAITING))
    return trials - had


def worker_loop(
    study: optuna.Study, spec: StudySpec, space: Space, objective: Objective, worker: str, stop: Callable[[], str]
) -> None:
    """Run trials until there are none left, or `stop` gives a reason ("interrupt" or "budget"), or nothing is new.

    Raises:
        Poisoned: the GPU context of this process is lost; the trial that met it is recorded, and run once more.
        StorageInternalError, SQLAlchemyError: the storage failed; the trial that met it, not to blame, stays as it is.
    """
    over: list[Exception] = []  # why this process can run no more trials

    def run(trial: optuna.Trial) -> Sequence[float]:
        try:
            return _run_trial(study, spec, space, objective, trial, stop, worker)
        except STORAGE_ERRORS as error:
            over.append(error)
            raise _Unrecorded from error
        except Exception as error:
            reason = error.error if isinstance(error, StackFailed) else error
            if is_poisoned(reason):
                over.append(Poisoned(failure_text(reason)))
            raise

    while not stop() and (spec.trials is not None or _goes_on(study, spec)):
        try:
            with suppress(_Unrecorded):
                study.optimize(run, n_trials=1, catch=(Exception,))
        except BudgetSpent:
            return
        if over:
            raise over[0]


class _Unrecorded(BaseException):
    """The storage failed in a trial; no Exception, or Optuna would record a failed trial as soon as it could."""


def _goes_on(study: optuna.Study, spec: StudySpec) -> bool:
    return not _is_spent(study, spec) and not is_exhausted(study.get_trials(deepcopy=False))


def _is_spent(study: optuna.Study, spec: StudySpec) -> bool:
    if spec.total_epochs is None and spec.total_flops is None:
        return False  # tickets and clocks are others' to count; reading every trial at each report would cost the most
    return is_spent(study.get_trials(deepcopy=False), spec.total_epochs, spec.total_flops)


def _run_trial(
    study: optuna.Study,
    spec: StudySpec,
    space: Space,
    objective: Objective,
    trial: optuna.Trial,
    stop: Callable[[], str],
    worker: str,
) -> Sequence[float]:
    started = _begin(study, spec, space, trial, stop, worker)
    if not isinstance(started, Started):
        return started
    if spec.stack > 1 and isinstance(objective, StackingObjective):
        group = Group(
            study,
            objective,
            lambda each: _begin(study, spec, space, each, stop, worker),
            lambda each, run: _conclude(study, each, run, stop),
        )
        return group.run(started, spec.stack - 1, tickets=spec.trials is not None)
    return _conclude(study, started, lambda: objective(started.candidate, started.handle), stop)


def _begin(
    study: optuna.Study,
    spec: StudySpec,
    space: Space,
    trial: optuna.Trial,
    stop: Callable[[], str],
    worker: str,
) -> Started | Sequence[float]:
    """Sign a trial and choose its candidate, or return the scores of the trial that it is a duplicate of.

    Raises:
        TrialPruned: there is nothing to train.
    """
    trial.set_user_attr("worker", worker)
    handle = TrialHandle(
        trial,
        spec.seed,
        lambda: bool(stop()),
        lambda: _is_spent(study, spec),
        pruner=spec.pruner,
        several=bool(spec.more),
    )
    handle.note(root=handle.root, attempt=handle.attempt, seed=handle.seed)
    candidate = space.suggest(trial)
    if candidate is None:
        handle.note(pruned_by="no modality")
        raise optuna.TrialPruned("every modality was given no encoder")
    handle.note(**candidate.to_dict(), key=candidate.key)
    twin = find_twin(study.get_trials(deepcopy=False), candidate.key, handle.root)
    if twin is not None:
        return record_duplicate(study, trial, twin, tickets=spec.trials is not None)
    return Started(trial, handle, candidate)


def _conclude(
    study: optuna.Study, started: Started, run: Callable[[], float | Sequence[float]], stop: Callable[[], str]
) -> Sequence[float]:
    """Run a trial and note how it ended."""
    trial, handle, _ = started
    try:
        return _finite(run())
    except Pruned as why:
        raise optuna.TrialPruned(str(why)) from None
    except Interrupted:
        if stop() == "budget" or handle.spent:
            handle.note(pruned_by=BUDGET)
            raise optuna.TrialPruned("the budget is spent") from None
        handle.note(failure="interrupted")
        hand_back(study, study._storage.get_trial(trial._trial_id))
        raise
    except STORAGE_ERRORS:
        raise
    except TrialFailed as why:
        handle.note(failure=str(why))
        raise
    except StackFailed as why:
        handle.note(failure=f"trained together: {failure_text(why.error)}")
        hand_back_crashed(study, study._storage.get_trial(trial._trial_id))  # to run alone
        raise
    except Exception as error:
        handle.note(failure=failure_text(error))
        if is_poisoned(error):
            hand_back_crashed(study, study._storage.get_trial(trial._trial_id))
        if quotes_data(error):  # Optuna writes it into the worker's log
            raise TrialFailed(failure_text(error)).with_traceback(error.__traceback__) from None
        raise


def _finite(found: float | Sequence[float]) -> Sequence[float]:
    values = [found] if isinstance(found, float | int) else list(found)
    for value in values:
        if not math.isfinite(value):
            raise TrialFailed(f"the score is {value}" if value is values[0] else f"an objective is {value}")
    return values


def summary(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """Count roots by how they stand: complete, pruned, failed, running, waiting; paused or duplicate where some are."""
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    names |= {TrialState.RUNNING: "running", TrialState.WAITING: "waiting"}
    kinds = [
        "duplicate" if is_duplicate(each) else "paused" if is_paused(each) else names[each.state]
        for each in last_attempts(trials).values()
    ]
    return dict.fromkeys(names.values(), 0) | Counter(kinds)


def finished(trials: Sequence[FrozenTrial]) -> int:
    """Return how many trials of a budget are over; a paused one is, until it is promoted."""
    last, roots = last_attempts(trials), {root_of(each) for each in trials if is_root(each)}
    return sum(last[root].state.is_finished() for root in roots)
