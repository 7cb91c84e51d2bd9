"""Writing MLflow runs with explicit ids: connecting in bounded time, batches, artifacts, comparisons."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from experiments.tracking.address import (
    is_server,
    known_scheme,
    resolve_uri,
    sqlite_path,
    unreachable,
)
from fusion.component import UsageError, masked

PARAM_LENGTH, TAG_LENGTH, KEY_LENGTH = 6000, 8000, 250
METRICS_A_BATCH, OTHERS_A_BATCH = 500, 90
SKIPPED = "ehrfusion.skipped_metrics"


class TrackerAway(UsageError):
    """A tracking server does not answer; it may come back."""


class Point(NamedTuple):
    """One value of a metric at a step; the time is milliseconds since 1970."""

    key: str
    value: float
    step: int = 0
    time: int = 0


@dataclass(frozen=True)
class Connection:
    """An MLflow tracker that has answered, and the experiment in it that runs are written to."""

    client: MlflowClient
    uri: str
    experiment_id: str

    @property
    def shown(self) -> str:
        """The address without a password."""
        return masked(self.uri)


@contextlib.contextmanager
def patience(seconds: int, retries: int) -> Iterator[None]:
    """Bound how long MLflow waits for a server (by default 4 minutes a call); what the user set stays."""
    wanted = {"TIMEOUT": seconds, "MAX_RETRIES": retries, "BACKOFF_FACTOR": 1}
    names = {f"MLFLOW_HTTP_REQUEST_{key}": str(value) for key, value in wanted.items()}
    new = {name: value for name, value in names.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def connect(uri: str | None, runs: Path, experiment: str = "ehrfusion") -> Connection:
    """Reach the tracker, initialise its database if it is new, and find or make the experiment.

    Raises:
        UsageError: the tracker does not answer within seconds, or cannot hold the experiment.
    """
    where = resolve_uri(uri, runs)
    if not known_scheme(where):
        raise UsageError(f"tracking: expected an address like http://host:5000 or sqlite:///file.db; got '{where}'")
    if reason := unreachable(where):
        raise TrackerAway(_no_answer(where, reason))
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with patience(seconds=5, retries=0), _alone(sqlite_path(where)):
            client = MlflowClient(where, where)
            return Connection(client, where, _experiment(client, where, runs, experiment))
    except UsageError:
        raise
    except Exception as error:  # SQLAlchemy, requests and MLflow each raise their own kinds
        raise (TrackerAway if is_server(where) else UsageError)(_no_answer(where, first_line(error))) from None


def probe(uri: str) -> str:
    """Ask a tracker that exists for its experiments and say how many it has; writes nothing.

    Raises:
        UsageError: it does not answer.
    """
    if reason := unreachable(uri):
        raise UsageError(reason)
    with patience(seconds=5, retries=0):
        found = MlflowClient(uri, uri).search_experiments(max_results=1000)
    return f"answers, {len(found)} experiments"


def why(connection: Connection, error: BaseException) -> str:
    """Return in a line why a tracker failed: that nothing listens there, or else what was raised."""
    return unreachable(connection.uri) or first_line(error)


def first_line(error: BaseException, length: int = 160) -> str:
    """Return an exception as one short line."""
    text = masked(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def log(
    connection: Connection,
    run_id: str,
    *,
    points: Sequence[Point] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
) -> None:
    """Write points, parameters and tags in as few calls as MLflow allows.

    Metrics that are no finite number are left out and named in a tag; long texts are cut.
    """
    finite = [each for each in points if math.isfinite(each.value)]
    left_out = sorted({each.key for each in points if not math.isfinite(each.value)})
    all_tags = dict(tags or {}) | ({SKIPPED: ", ".join(left_out)} if left_out else {})
    ready_params = [Param(_key(key), _text(value)[:PARAM_LENGTH]) for key, value in (params or {}).items()]
    ready_tags = [RunTag(_key(key), _text(value)[:TAG_LENGTH]) for key, value in all_tags.items()]
    now = int(time.time() * 1000)
    ready = [Metric(_key(each.key), float(each.value), each.time or now, each.step) for each in finite]
    for start in range(0, max(len(ready_params), len(ready_tags)), OTHERS_A_BATCH):
        part = slice(start, start + OTHERS_A_BATCH)
        connection.client.log_batch(run_id, params=ready_params[part], tags=ready_tags[part])
    for start in range(0, len(ready), METRICS_A_BATCH):
        connection.client.log_batch(run_id, metrics=ready[start : start + METRICS_A_BATCH])


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one with dotted keys; None is left out."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def find_runs(connection: Connection, tag: str, value: str) -> list[Run]:
    """Return the runs that carry a tag, oldest first."""
    quoted = value.replace("'", "")
    found: list[Run] = []
    token: str | None = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment_id],
            f"tags.`{tag}` = '{quoted}'",
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found


def study_run(connection: Connection, study_key: str) -> str | None:
    """Return the parent run of a study, None where it was never tracked."""
    found = find_runs(connection, "ehrfusion.study_key", study_key)
    return str(found[0].info.run_id) if found else None


def log_comparison(
    connection: Connection,
    name: str,
    rows: Sequence[Mapping[str, Any]],
    files: Sequence[Path] = (),
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    parent: str | None = None,
) -> str:
    """Write a comparison as a run: its numbers as metrics, its rows, tables and plots as files.

    A row {"strategy": "late", "metric": "auroc", "value": 0.81, "low": 0.78} gives `late/auroc/value` and
    `late/auroc/low`. Returns the id of the run.
    """
    links = {"mlflow.parentRunId": parent} if parent else {}
    every = {"ehrfusion.kind": "comparison", **(tags or {}), **links}
    with patience(seconds=30, retries=1):
        run = connection.client.create_run(connection.experiment_id, run_name=name, tags=_texts(every))
        run_id: str = run.info.run_id
        log(connection, run_id, points=[point for row in rows for point in _row_points(row)], params=params)
        connection.client.log_dict(run_id, {"rows": [dict(row) for row in rows]}, "comparison.json")
        for file in files:
            connection.client.log_artifact(run_id, str(file))
        connection.client.set_terminated(run_id, "FINISHED")
    return run_id


def _row_points(row: Mapping[str, Any]) -> Iterator[Point]:
    prefix = "".join(f"{value}/" for value in row.values() if isinstance(value, str))
    for key, value in row.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield Point(prefix + key, float(value))


def _experiment(client: MlflowClient, uri: str, runs: Path, name: str) -> str:
    for _ in range(2):
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise UsageError(
                f"tracking: experiment '{name}' was deleted in {masked(uri)};"
                f" restore it (mlflow experiments restore -x {found.experiment_id})"
                " or set tracking.experiment"
            )
        if found is not None:
            return str(found.experiment_id)
        place = None if is_server(uri) else (runs / "artifacts").resolve().as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=place))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise UsageError(f"tracking: experiment '{name}' could neither be found nor made in {masked(uri)}")


@contextlib.contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """Let one process at a time initialise an SQLite tracker: its migrations crash when two run them."""
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with database.with_name(database.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _no_answer(uri: str, reason: str) -> str:
    return (
        f"the MLflow tracker {masked(uri)} does not answer ({reason}); start it, set tracking.uri or"
        " MLFLOW_TRACKING_URI, or switch it off with tracking.enabled=false"
    )


def _key(name: str) -> str:
    return re.sub(r"[^\w\-./: ]", "_", str(name))[:KEY_LENGTH].strip("/") or "_"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _texts(tags: Mapping[str, Any]) -> dict[str, str]:
    return {key: _text(value)[:TAG_LENGTH] for key, value in tags.items()}
