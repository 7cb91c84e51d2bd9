"""A database server that restarts: connections wait for it, and what can be said twice is said again."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import exc

PATIENCE_SECONDS = 600.0  # how long a server may be away before a process gives up
_REPEATABLE = (  # what Optuna's cache asks of the storage behind it
    *("set_study_user_attr", "set_study_system_attr", "get_study_user_attrs", "get_study_system_attrs"),
    *("set_trial_param", "_set_trial_param", "set_trial_intermediate_value", "set_trial_state_values"),
    "start_waiting",  # done twice, the first has no heartbeat, and is handed back
    *("set_trial_user_attr", "set_trial_system_attr", "get_trial", "_get_trials", "_get_stale_trial_ids"),
    *("get_study_id_from_name", "get_study_directions", "get_trial_id_from_study_id_trial_number"),
)
T = TypeVar("T", bound=RDBStorage)


def wait_for_server(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
    """Connect, however often the server must be asked; for SQLAlchemy's event `do_connect`.

    Raises:
        whatever the driver raises, after `PATIENCE_SECONDS`.
    """
    for pause in _pauses():
        try:
            return dialect.connect(*arguments, **options)
        except dialect.loaded_dbapi.OperationalError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def make_repeated(storage: type[T]) -> None:
    """Let a storage do again what it was doing when the server went away, where doing it twice does no harm.

    New trials are not among it: the server may have added one before it went away. Their callers raise, and whoever
    takes over sees what there is.
    """
    for name in _REPEATABLE:
        setattr(storage, name, _repeated(getattr(storage, name)))


def _repeated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def again(self: RDBStorage, *arguments: Any, **options: Any) -> Any:
        cut = False
        for pause in _pauses():
            try:
                return method(self, *arguments, **options)
            except optuna.exceptions.UpdateFinishedTrialError:
                if cut and method.__name__ == "set_trial_state_values":
                    return True  # it did so the first time, and went away before it said so
                raise
            except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                if pause is None or not is_cut(error):
                    raise
                cut = True
            time.sleep(pause)
        raise AssertionError("the last pause is None")

    return again


def is_cut(error: BaseException) -> bool:
    """Tell whether an error says that the connection was lost, and not that the database refused something."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    # the second is what a further statement of the same transaction meets
    return (isinstance(cause, exc.DBAPIError) and cause.connection_invalidated) or isinstance(
        cause, exc.PendingRollbackError
    )


def _pauses() -> Any:
    """Yield growing pauses in seconds, and None when patience is at its end."""
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.25
    while time.monotonic() < deadline:
        yield pause
        pause = min(2 * pause, 10.0)
    yield None
