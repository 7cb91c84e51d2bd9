"""The loop of a worker that has no driver: its own trials, then those of workers that die meanwhile."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import optuna
from optuna.trial import TrialState

from search import storage
from search.attempts import fail_lost, rescue
from search.identity import lives
from search.space import Space
from search.study import StudySpec, worker_loop
from search.trial import Objective


def take_part(
    study: optuna.Study,
    spec: StudySpec,
    space: Space,
    objective: Objective,
    worker: str,
    stop: Callable[[], str],
    *,
    poll_seconds: float = 5.0,
) -> None:
    """Run trials until none is left, and stay for as long as it takes to see that another worker has died.

    The trials of dead workers are handed back by whoever sees it first. Where all die at once, the next one started
    does so.

    Raises:
        Poisoned, StorageInternalError, SQLAlchemyError: as `worker_loop`.
    """
    _hand_back_lost(study)
    while True:
        worker_loop(study, spec, space, objective, worker, stop)
        if spec.trials is None or not _more_to_come(study, stop, poll_seconds):
            return


def _more_to_come(study: optuna.Study, stop: Callable[[], str], poll_seconds: float) -> bool:
    """Wait for a trial to be handed back; False where nobody has one, or its worker would long be known to be dead."""
    deadline = time.monotonic() + 6 * storage.HEARTBEAT_SECONDS
    while not stop() and time.monotonic() < deadline:
        _hand_back_lost(study)
        states = {trial.state for trial in study.get_trials(deepcopy=False)}
        if TrialState.WAITING in states:
            return True
        if TrialState.RUNNING not in states:
            return False
        time.sleep(poll_seconds)
    return False


def _hand_back_lost(study: optuna.Study) -> None:
    """Hand back the trials whose workers died: on this host at once, on others after a while without heartbeats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # our tests guard it
        optuna.storages.fail_stale_trials(study)
    fail_lost(study, lambda trial: "worker" in trial.user_attrs and not lives(trial.user_attrs["worker"]))
    rescue(study)
