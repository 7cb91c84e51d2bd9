"""A study in MLflow, projected from its Optuna storage by the driver alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from experiments.tracking.attempts import (
    KIND,
    STUDY_KEY,
    TRIAL_KEY,
    Attempts,
    SetTrialAttr,
    Trial,
    milliseconds,
    plain,
)
from experiments.tracking.runs import Connection, Point, find_runs, flatten, log, patience, why
from search.objectives import is_candidate


class StudyTracker:
    """Keep the MLflow runs of a study equal to its trials; a tracker that is away costs no training.

    All trials are handed over as they stand in the storage, as often as one likes: what is written is not
    written again, also not by a new process. After a failure the tracker is left alone for a while; `finish`,
    or later `ehrfusion track sync`, writes what is missing.

    Args:
        direction: "maximize" or "minimize", to tell the best trial.
        tags: what every run of the study carries (fingerprints, git_commit, metric).
        params: the study's settings as parameters of the parent run.
        config: the whole configuration, kept as `config.json`.
        objectives: what the objectives are called, the score first.
        set_trial_attr: called with trial id, "mlflow.run_id" and the id of a new run.
        pause_seconds: how long a tracker that failed is left alone; doubles up to ten times as long.
    """

    def __init__(
        self,
        connection: Connection,
        study_key: str,
        name: str,
        *,
        direction: str = "maximize",
        tags: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        objectives: Sequence[str] = (),
        set_trial_attr: SetTrialAttr | None = None,
        pause_seconds: float = 30.0,
    ) -> None:
        self.connection, self.study_key, self.name = connection, study_key, name
        self.sign = -1.0 if direction == "minimize" else 1.0
        commit = str((tags or {}).get("git_commit", "")).partition("+")[0]
        self.tags = {**(tags or {}), **({"mlflow.source.git.commit": commit} if commit else {})}
        self.params, self.config, self.set_trial_attr = dict(params or {}), config, set_trial_attr
        self.objectives = tuple(objectives)
        self.problem: str | None = None
        self._attempts: Attempts | None = None
        self._counted, self._not_before = 0, 0.0
        self._pause, self._first_pause = pause_seconds, pause_seconds
        self._safely(lambda: None)

    @property
    def run_id(self) -> str | None:
        """The parent run, once the tracker has answered."""
        return self._attempts.parent if self._attempts else None

    def sync(self, trials: Sequence[Trial]) -> bool:
        """Write what is new; False where the tracker failed or is being left alone after a failure."""
        if time.monotonic() < self._not_before:
            return False
        return self._safely(lambda: self._write(trials))

    def finish(self, trials: Sequence[Trial], *, status: str = "FINISHED", files: Sequence[Path] = ()) -> bool:
        """Write what is left and the study's files, and close the parent run.

        On False, `problem` says in one line what to do.
        """

        def write() -> None:
            parent = self._write(trials)
            for file in files:
                self.connection.client.log_artifact(parent, str(file))
            self.connection.client.set_terminated(parent, status)

        return self._safely(write)

    def _safely(self, write: Callable[[], str | None]) -> bool:
        try:
            with patience(seconds=5, retries=0):
                if self._attempts is None:
                    self._attempts = self._open()
                write()
        except Exception as error:  # nothing that happens here may stop a search
            reason = why(self.connection, error)
            self.problem = (
                f"the MLflow tracker {self.connection.shown} did not take everything ({reason});"
                f" training is not affected, and `ehrfusion track sync {self.name}` writes the rest"
            )
            self._not_before = time.monotonic() + self._pause
            self._pause = min(self._pause * 2, 10 * self._first_pause)
            return False
        self.problem, self._not_before, self._pause = None, 0.0, self._first_pause
        return True

    def _open(self) -> Attempts:
        """Find the study's parent run or start it, and see what is there already."""
        client = self.connection.client
        found = self._parent()
        if found is None:
            tags = {STUDY_KEY: self.study_key, KIND: "study"}
            found = client.create_run(self.connection.experiment_id, run_name=self.name, tags=tags)
        parent: str = found.info.run_id
        params = {key: value for key, value in flatten(self.params).items() if key not in found.data.params}
        client.update_run(parent, status="RUNNING")
        log(self.connection, parent, params=params, tags=self.tags)
        if self.config is not None:
            client.log_dict(parent, plain(self.config), "config.json")
        counted = client.get_metric_history(parent, "trials_finished")
        self._counted = max((metric.step for metric in counted), default=0)
        return Attempts(self.connection, self.study_key, parent, self.tags, self.set_trial_attr, self.objectives)

    def _parent(self) -> Run | None:
        runs = find_runs(self.connection, STUDY_KEY, self.study_key)
        return next((run for run in runs if TRIAL_KEY not in run.data.tags), None)

    def _write(self, trials: Sequence[Trial]) -> str:
        if self._attempts is None:
            raise RuntimeError("no parent run")
        self._attempts.write(trials)
        self._summarise(trials, self._attempts)
        return self._attempts.parent

    def _summarise(self, trials: Sequence[Trial], attempts: Attempts) -> None:
        """Write the best score and the counts to the parent run when another trial has finished."""
        ended = [trial for trial in trials if trial.state.is_finished()]
        if len(ended) <= self._counted:
            return
        states = [trial.state.name for trial in ended]
        names = {"COMPLETE": "trials_complete", "PRUNED": "trials_pruned", "FAIL": "trials_failed"}
        numbers = {name: float(states.count(state)) for state, name in names.items()}
        tags: dict[str, Any] = {}
        scored = [(self.sign * trial.values[0], trial) for trial in ended if trial.values and is_candidate(trial)]
        scored = [pair for pair in scored if math.isfinite(pair[0])]
        if scored:
            value, best = max(scored, key=lambda pair: pair[0])
            numbers["best_score"] = self.sign * value
            child = attempts.children.get(attempts.key(best))
            tags = {"ehrfusion.best_trial": best.number, "ehrfusion.best_run": child.run_id if child else ""}
        numbers["trials_finished"] = float(len(ended))
        last = max(milliseconds(trial.datetime_complete or trial.datetime_start) for trial in ended)
        points = [Point(name, number, len(ended), last) for name, number in numbers.items()]
        log(self.connection, attempts.parent, points=points, tags=tags)
        self._counted = len(ended)
