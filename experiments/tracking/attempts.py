"""The child runs of a study in MLflow: one for every attempt of a trial, each thing written once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from mlflow.exceptions import MlflowException

from experiments.tracking.runs import Connection, Point, find_runs, flatten, log

STUDY_KEY, TRIAL_KEY, KIND = "ehrfusion.study_key", "ehrfusion.trial_key", "ehrfusion.kind"
NUMBER, DESCRIBED, FINAL = "ehrfusion.trial", "ehrfusion.described", "ehrfusion.final"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
FINALS = ("seconds", "parameters", "peak_memory_mb", "patients_at_once", "best_epoch")
NOTES = ("seed", "root", "attempt", "worker")
ENDINGS = {"FAIL": "failure", "PRUNED": "pruned_by"}
TEST_NAMES = ("test", "held_out", "heldout")
SetTrialAttr = Callable[[int, str, str], None]


class Trial(Protocol):
    """What is read of a trial; `optuna.trial.FrozenTrial` has all of it."""

    number: int
    state: Any
    params: dict[str, Any]
    datetime_start: datetime | None
    datetime_complete: datetime | None
    _trial_id: int

    @property
    def user_attrs(self) -> dict[str, Any]:
        """What its worker noted."""

    @property
    def values(self) -> Sequence[float] | None:
        """The scores of a completed trial."""


@dataclass
class Attempt:
    """The run of one attempt, and how much of it is written."""

    run_id: str
    number: int
    root: str
    attempt: int
    described: bool = False
    closed: bool = False
    final: bool = True
    epochs: set[int] | None = field(default_factory=set)  # None: written by an earlier process, not looked up


class Attempts:
    """All child runs of one parent run, by their key `study key/root trial/attempt`."""

    def __init__(
        self,
        connection: Connection,
        study_key: str,
        parent: str,
        tags: Mapping[str, Any],
        set_trial_attr: SetTrialAttr | None = None,
        objectives: Sequence[str] = (),
    ) -> None:
        self.connection, self.study_key, self.parent = connection, study_key, parent
        self.tags, self.set_trial_attr, self.objectives = tags, set_trial_attr, objectives
        self.children: dict[str, Attempt] = {}
        for run in find_runs(connection, "mlflow.parentRunId", parent):
            key, run_id, running = run.data.tags.get(TRIAL_KEY), run.info.run_id, run.info.status == "RUNNING"
            if key is None:
                continue
            if key in self.children:  # two drivers at once made it twice
                if running:
                    self.close(run_id, "KILLED", tags={"state": "DUPLICATE", FINAL: "false"})
                continue
            self.children[key] = self._read(key, run_id, running, run.data.tags)

    def write(self, trials: Sequence[Trial]) -> None:
        """Write what is new of the study's trials, all of which must be given.

        Raises:
            MlflowException: the tracker is away, or refused something of a trial (the others are written).
        """
        keys: set[str] = set()
        refused: MlflowException | None = None
        for trial in trials:
            if trial.state.name == "WAITING":
                continue
            key = self.key(trial)
            keys.add(key)
            try:
                self._write_trial(trial, key)
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                refused = error
        self._close_lost(keys)
        self._mark_superseded()
        if refused is not None:
            raise refused

    def key(self, trial: Trial) -> str:
        """Return the key of a trial's run."""
        root = trial.user_attrs.get("root", trial.number)
        key = f"{self.study_key}/{root}/{trial.user_attrs.get('attempt', 0)}"
        owner = self.children.get(key)
        # a retried trial is born with a copy of its predecessor's attributes
        return key if owner is None or owner.number == trial.number else f"{key}/{trial.number}"

    def close(self, run_id: str, status: str, end: int | None = None, *, tags: Mapping[str, Any]) -> None:
        """Give a run its last tags and its status."""
        log(self.connection, run_id, tags=tags)
        self.connection.client.set_terminated(run_id, status, end)

    def _read(self, key: str, run_id: str, running: bool, tags: Mapping[str, str]) -> Attempt:
        root, attempt = self._root_attempt(key)
        return Attempt(
            run_id,
            int(tags.get(NUMBER, -1)),
            root,
            attempt,
            described=DESCRIBED in tags,
            closed=not running,
            final=tags.get(FINAL) != "false",
            epochs=None,
        )

    def _root_attempt(self, key: str) -> tuple[str, int]:
        root, attempt = key.removeprefix(self.study_key + "/").split("/")[:2]
        return root, int(attempt)

    def _write_trial(self, trial: Trial, key: str) -> None:
        finished = trial.state.is_finished()
        child = self.children.get(key)
        if child is None:
            borrowed = key.count("/") > self.study_key.count("/") + 2
            if not finished and (borrowed or "root" not in trial.user_attrs):
                return  # claimed a moment ago: its worker has not said yet which attempt it is
            child = self.children[key] = self._start(trial, key)
        if child.closed:
            return
        if not child.described and (finished or "architecture" in trial.user_attrs):
            self._describe(trial, child)
        self._write_epochs(trial, child)
        if finished:
            self._write_end(trial, child)

    def _start(self, trial: Trial, key: str) -> Attempt:
        tags = {
            **self.tags,
            KIND: "trial",
            STUDY_KEY: self.study_key,
            TRIAL_KEY: key,
            NUMBER: str(trial.number),
            FINAL: "true",
            "mlflow.parentRunId": self.parent,
            "state": "RUNNING",
        }
        run = self.connection.client.create_run(
            self.connection.experiment_id,
            start_time=milliseconds(trial.datetime_start),
            run_name=f"trial {trial.number}",
            tags={name: str(value) for name, value in tags.items()},
        )
        if self.set_trial_attr is not None and not trial.state.is_finished():
            self.set_trial_attr(trial._trial_id, "mlflow.run_id", run.info.run_id)
        return Attempt(run.info.run_id, trial.number, *self._root_attempt(key))

    def _describe(self, trial: Trial, child: Attempt) -> None:
        attributes = trial.user_attrs
        architecture = attributes.get("architecture") or {}
        if architecture:
            self.connection.client.log_dict(child.run_id, plain(architecture), "architecture.json")
        parts = {"architecture": architecture, "training": attributes.get("training") or {}}
        tags = {name: attributes[name] for name in NOTES if attributes.get(name) is not None}
        params = flatten(parts) | trial.params
        log(self.connection, child.run_id, params=params, tags={**tags, DESCRIBED: "true"})
        child.described = True

    def _write_epochs(self, trial: Trial, child: Attempt) -> None:
        if child.epochs is None:
            written = self.connection.client.get_metric_history(child.run_id, "epoch/score")
            child.epochs = {metric.step for metric in written}
        points: list[Point] = []
        clock = milliseconds(trial.datetime_start)
        for entry in trial.user_attrs.get("history") or []:
            epoch = int(entry["epoch"])
            clock += int(1000 * _number(entry.get("seconds"), 0.0))
            if epoch not in child.epochs:
                points += [Point(f"epoch/{key}", value, epoch, clock) for key, value in _metrics(entry)]
        if points:
            log(self.connection, child.run_id, points=points)
        child.epochs |= {point.step for point in points}

    def _write_end(self, trial: Trial, child: Attempt) -> None:
        state, attributes = trial.state.name, trial.user_attrs
        end = milliseconds(trial.datetime_complete or trial.datetime_start)
        step = max(child.epochs or {0})
        finals = {name: _number(attributes[name], math.nan) for name in FINALS if name in attributes}
        finals |= {name: _number(value, math.nan) for name, value in attributes.get("costs", {}).items()}
        for index, value in enumerate(trial.values or [] if state == "COMPLETE" else []):
            finals[self._objective(index)] = value
        points = [Point(name, value, step, end) for name, value in finals.items()]
        reason = attributes.get(ENDINGS.get(state, ""))
        tags = {"state": state, **({ENDINGS[state]: reason} if reason else {})}
        log(self.connection, child.run_id, points=points, tags=tags)
        handed_back = state == "FAIL" and str(reason).lower().startswith(("interrupted", "preempted"))
        self.connection.client.set_terminated(child.run_id, "KILLED" if handed_back else STATUS[state], end)
        child.closed = True

    def _objective(self, index: int) -> str:
        if index == 0:
            return "score"
        return self.objectives[index] if index < len(self.objectives) else f"score_{index}"

    def _close_lost(self, keys: set[str]) -> None:
        """Close runs whose trial the storage no longer knows."""
        for key, child in self.children.items():
            if not child.closed and key not in keys:
                self.close(child.run_id, "KILLED", tags={"state": "LOST", FINAL: "false"})
                child.closed, child.final = True, False

    def _mark_superseded(self) -> None:
        newest: dict[str, Attempt] = {}
        for child in sorted(self.children.values(), key=lambda each: (each.attempt, each.number)):
            newest[child.root] = child
        for child in self.children.values():
            if child.final and child is not newest[child.root]:
                tags = {FINAL: "false", "ehrfusion.superseded_by": newest[child.root].run_id}
                log(self.connection, child.run_id, tags=tags)
                child.final = False


def milliseconds(moment: datetime | None) -> int:
    """Return a moment as MLflow wants it; now where there is none."""
    return int((moment.timestamp() if moment else time.time()) * 1000)


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold; paths and the like become texts."""
    found: dict[str, Any] = json.loads(json.dumps(dict(data), default=str))
    return found


def _metrics(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Give the numbers of an epoch; nothing measured on the test split may pass."""
    for key, value in entry.items():
        if key != "epoch" and isinstance(value, int | float) and not key.lower().startswith(TEST_NAMES):
            yield key, float(value)


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default
