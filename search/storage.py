"""Study storage for many processes: Optuna's database storage, made safe on SQLite and under restarts."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections.abc import Callable, Container
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import and_, bindparam, event, exc, or_, select
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import Session, scoped_session

from fusion.component import UsageError, masked
from search.identity import lives_here
from search.locking import one_on_all_hosts
from search.outage import make_repeated, wait_for_server
from search.reading import read_trials

HEARTBEAT_SECONDS = 60
NO_SIGN_OF_LIFE = "its worker gave no sign of life"
_NETWORK_FILESYSTEMS = ("nfs", "nfs4", "lustre", "cifs", "smb3", "gpfs", "beegfs", "fuse.sshfs")


class BudgetSpent(RuntimeError):
    """There is no ticket left: the study has started as many trials as it may."""


class StudyStorage(RDBStorage):
    """Optuna's database storage with six differences.

    A heartbeat that fails is tried again instead of ending the heartbeat thread (a database that restarts must not
    get healthy trials declared dead). A server that goes away is waited for, see `search.outage`. With `tickets_only`,
    trials are started only from WAITING ones, so that a budget in trials is exact whatever dies, and `start_waiting`
    takes one in one step; those that wait are read once. On SQLite every transaction takes the write lock at its
    start, because Optuna's read-check-write is otherwise not atomic there.
    """

    def __init__(
        self, url: str, *, tickets_only: bool, on_stale: Callable[[optuna.Study, FrozenTrial], None] | None
    ) -> None:
        self.tickets_only = tickets_only
        self._silent_since: dict[int, float] = {}
        self._waiting: dict[int, FrozenTrial] = {}
        sqlite = url.startswith("sqlite")
        arguments: dict[str, Any] = {"connect_args": {"timeout": 60}} if sqlite else {"pool_pre_ping": True}
        if url.startswith("postgresql+psycopg:"):  # a pooler may give each transaction another connection
            arguments["connect_args"] = {"prepare_threshold": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats; our tests guard them
            super().__init__(
                url,
                engine_kwargs=arguments,
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=4 * HEARTBEAT_SECONDS,
                heartbeat_stale_trial_callback=on_stale,
            )
        if sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_immediate)
            self.engine.dispose()  # drop the connection from before the listeners
        else:
            event.listen(self.engine, "do_connect", wait_for_server)  # from now on: a wrong address must not wait
        # a study that nobody closed must not keep connections either; at exit the system takes them
        weakref.finalize(self, _let_go, self.scoped_session, self.engine, os.getpid()).atexit = False

    def close(self) -> None:
        """Let go of the database now: an open connection keeps SQLite's side files on the disk."""
        _let_go(self.scoped_session, self.engine, os.getpid())

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Start a trial, or add a ticket from a template.

        Optuna's cache in front of this storage calls this method and not the public one; a test guards that.

        Raises:
            BudgetSpent: only tickets may be used, and there is none.
        """
        if self.tickets_only and template_trial is None:
            raise BudgetSpent("no ticket left")
        return super()._create_new_trial(study_id, template_trial)

    def start_waiting(self, study_id: int) -> int | None:
        """Start the first waiting trial that nobody else is just starting; return its id, None where there is none.

        Raises:
            KeyError: there is no such study any more; a worker must not take that for the end of its budget.
        """
        trial = models.TrialModel
        first = select(trial).where(trial.study_id == study_id, trial.state == TrialState.WAITING)
        first = first.order_by(trial.trial_id).limit(1).with_for_update(skip_locked=True)  # SQLite locks all anyway
        with Session(self.engine) as session, session.begin():
            found = session.scalar(first)
            if found is not None:
                found.state, found.datetime_start = TrialState.RUNNING, datetime.now()
                return int(found.trial_id)
            study = models.StudyModel.study_id
            if session.scalar(select(study).where(study == study_id)) is None:
                raise KeyError(study_id)
        return None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read the trials that Optuna's cache asks for; those known to wait are not read again.

        A waiting trial does not change until it is started, and a study may have thousands: reading them all, each
        time, would be most of what a trial costs.
        """
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        trial = models.TrialModel
        asked = select(trial.trial_id, trial.state).where(trial.study_id == study_id)
        asked = asked.where(or_(trial.trial_id > trial_id_greater_than, trial.state == TrialState.WAITING))
        with self.engine.connect() as connection:
            found = {row.trial_id: row.state for row in connection.execute(asked)}
            waiting = {each for each, state in found.items() if state == TrialState.WAITING}
            known = {each: self._waiting[each] for each in waiting & self._waiting.keys()}
            newest = max([trial_id_greater_than, *known])
            unread = {*included_trial_ids, *(each for each in found if each <= newest)} - known.keys()
            # written into the statement: hundreds of parameters would cost the driver more than all else
            listed = trial.trial_id.in_(bindparam("unread", sorted(unread), expanding=True, literal_execute=True))
            which = or_(trial.trial_id > newest, listed)
            read = read_trials(connection, and_(trial.study_id == study_id, which))
        read = [each for each in read if each._trial_id not in known]
        self._waiting = known | {each._trial_id: each for each in read if each.state == TrialState.WAITING}
        return sorted([*known.values(), *read], key=lambda each: each.number)

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        """Find the trials without a sign of life, and note on each why it is about to be failed.

        A worker of this host that lives gave none because the machine slept, or because it was stopped: it goes on.
        """
        found = [*super()._get_stale_trial_ids(study_id), *self._never_beat(study_id)]
        stale = [each for each in found if not lives_here(self.get_trial(each).user_attrs.get("worker", ""))]
        for trial_id in stale:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                self.set_trial_user_attr(trial_id, "failure", NO_SIGN_OF_LIFE)
        return stale

    def _never_beat(self, study_id: int) -> list[int]:
        """Find the RUNNING trials that have had no heartbeat for as long as this process has looked, and long enough.

        Their workers died right after they took them, or before they could sign them; Optuna leaves these out.
        """
        trial, beat = models.TrialModel, models.TrialHeartbeatModel
        silent = select(trial.trial_id).where(trial.study_id == study_id, trial.state == TrialState.RUNNING)
        silent = silent.where(~select(beat.trial_id).where(beat.trial_id == trial.trial_id).exists())
        with self.engine.connect() as connection:
            found = list(connection.scalars(silent))
        now = time.monotonic()
        self._silent_since = {each: self._silent_since.get(each, now) for each in found}
        return [each for each, since in self._silent_since.items() if now - since > HEARTBEAT_SECONDS]

    def record_heartbeat(self, trial_id: int) -> None:
        """Record that a trial lives, however often the database must be asked."""
        pause = 1.0
        while True:
            try:
                return super().record_heartbeat(trial_id)
            except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError):
                time.sleep(pause)
                pause = min(2 * pause, 30.0)


make_repeated(StudyStorage)


def open_storage(
    url: str,
    *,
    tickets_only: bool = False,
    on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None,
) -> StudyStorage:
    """Open study storage by its URL; processes open it themselves, a storage is never pickled.

    Raises:
        UsageError: it does not answer, belongs to another version of Optuna, or is SQLite on a network file system.
    """
    if url.startswith("sqlite"):
        _check_local(Path(url.removeprefix("sqlite:///")))
    try:
        with one_on_all_hosts(url, "tables"):  # who opens an empty database makes its tables
            return StudyStorage(url, tickets_only=tickets_only, on_stale=on_stale)
    except (exc.SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, RuntimeError) as error:
        raise UsageError(f"study storage {without_password(url)} does not answer: {_why(error)}") from None


STORAGE_ERRORS = (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
"""What is raised when a storage that did answer fails: a full disk, a server that does not come back."""


def storage_failed(url: str, error: BaseException) -> str:
    """Say in one line that a storage failed, why, and what to do."""
    return (
        f"study storage {without_password(url)} failed: {_why(error)}; what was recorded is not lost: see to it, and "
        "the same command goes on where it was"
    )


def _why(error: BaseException) -> str:
    """Return the first line of what the database said, which Optuna and SQLAlchemy wrap in advice of their own."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    original = getattr(cause, "orig", None) or cause or error
    lines = str(original).strip().splitlines()
    return masked(lines[0]) if lines else type(original).__name__


def storage_of(study: optuna.Study) -> StudyStorage | None:
    """Return the database storage behind Optuna's cache, None where a study has another kind."""
    found = getattr(study._storage, "_backend", study._storage)
    return found if isinstance(found, StudyStorage) else None


def close_study(study: optuna.Study) -> None:
    """Let go of a study's connections; a server has only so many."""
    storage = storage_of(study)
    if storage is not None:
        storage.close()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path.resolve()}"


def _let_go(session: scoped_session[Any], engine: Engine, opened_by: int) -> None:
    ours = os.getpid() == opened_by  # a forked child that closed a connection would end its parent's
    if ours:
        session.remove()
    engine.dispose(close=ours)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_immediate, not by the driver
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_immediate(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_local(path: Path) -> None:
    import psutil

    folder = path.resolve().parent
    if not folder.is_dir():
        raise UsageError(f"study storage {path}: the folder {folder} does not exist")
    mounts = [m for m in psutil.disk_partitions(all=True) if folder.is_relative_to(m.mountpoint)]
    kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""
    if kind in _NETWORK_FILESYSTEMS:
        raise UsageError(f"study storage {path} is SQLite on {kind}, where its locks do not hold; use PostgreSQL")


def without_password(url: str) -> str:
    """Show where a storage is; its user, password and options are nobody's business."""
    try:
        parts = make_url(url)
    except exc.ArgumentError:
        return "(not a database URL)"
    return f"{parts.drivername}://{parts.host or ''}/{parts.database or ''}"
