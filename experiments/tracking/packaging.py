"""Putting a bundle into MLflow: its run, its logged model, its version in the registry."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from experiments.bundle import CARD, load_bundle
from experiments.tracking.columns import example, signature
from experiments.tracking.quietly import pyfunc, quietly
from experiments.tracking.runs import Connection, log
from experiments.versions import requirement

DESCRIPTION_LENGTH = 5000


def start_run(connection: Connection, name: str, tags: Mapping[str, Any], parent: str | None) -> str:
    """Start the run that a registration is recorded in."""
    links = {"mlflow.parentRunId": parent} if parent else {}
    run = connection.client.create_run(
        connection.experiment_id,
        run_name=f"register {name}",
        tags={"ehrfusion.kind": "registration", **links},
    )
    run_id: str = run.info.run_id
    log(connection, run_id, tags=tags)
    return run_id


def log_model(bundle: Path, name: str, connection: Connection, run_id: str) -> str:
    """Write a bundle with the code that serves it as a logged model; returns its id."""
    predictor = load_bundle(bundle)
    client = connection.client
    model = client.create_logged_model(
        connection.experiment_id, name=name, source_run_id=run_id, model_type=predictor.task.kind
    )
    model_id: str = model.model_id
    try:
        with tempfile.TemporaryDirectory() as folder, quietly():
            path = Path(folder) / "model"
            pyfunc.save_model(
                str(path),
                python_model=str(Path(__file__).with_name("serve.py")),
                artifacts={"bundle": str(bundle)},
                signature=signature(predictor.modalities, predictor.task),
                input_example=example(predictor.modalities),
                pip_requirements=[requirement("ehrfusion"), requirement("mlflow"), requirement("torch")],
                mlflow_model=Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model_id),
            )
            client.log_model_artifacts(model_id, str(path))
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)
        raise
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    return model_id


def create_version(
    bundle: Path,
    name: str,
    connection: Connection,
    run_id: str,
    model_id: str,
    tags: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> int:
    """Make a logged model the next version of a registered model, with its metrics and its card."""
    client = connection.client
    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    now = int(time.time() * 1000)
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    ready = [Metric(f"test/{key}", float(value), now, 0, model_id=model_id) for key, value in finite.items()]
    if ready:
        client.log_batch(run_id, metrics=ready)
    client.log_artifact(run_id, str(bundle / CARD))
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    shown = {f"test.{key}": f"{value:.6g}" for key, value in finite.items()}
    version = client.create_model_version(
        name,
        client.get_logged_model(model_id).artifact_location,  # a models:/ source is sought at the global tracker
        run_id,
        tags={key: str(value) for key, value in {**tags, **shown}.items()},
        description=(bundle / CARD).read_text(encoding="utf-8")[:DESCRIPTION_LENGTH],
        model_id=model_id,
    )
    return int(version.version)
