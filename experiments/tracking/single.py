"""One experiment as one MLflow run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.tracking.runs import Connection, Point, flatten, log, patience


def log_single(
    connection: Connection,
    name: str,
    params: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    finals: Mapping[str, float],
    tags: Mapping[str, Any],
    files: Mapping[Path, str | None] | None = None,
) -> str:
    """Write settings, metrics of every epoch, final figures and files; return the id of the run.

    Args:
        files: each with the folder of the run's artifacts that it belongs into, None for the top.
    """
    points = [
        Point(f"epoch/{key}", value, int(entry["epoch"]))
        for entry in history
        for key, value in entry.items()
        if key != "epoch"
    ]
    points += [Point(key, float(value)) for key, value in finals.items()]
    with patience(seconds=30, retries=1):
        run = connection.client.create_run(connection.experiment_id, run_name=name)
        run_id: str = run.info.run_id
        every = {"ehrfusion.kind": "experiment", **tags}
        log(connection, run_id, points=points, params=flatten(params), tags=every)
        for file, folder in (files or {}).items():
            connection.client.log_artifact(run_id, str(file), folder)
        connection.client.set_terminated(run_id, "FINISHED")
    return run_id
