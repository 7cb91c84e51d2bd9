"""Which engine a study runs on, and what its workers are told: data, so that it can be sent to another machine."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import asdict, replace

import optuna

from experiments.config import StudyConfig
from experiments.engine import Engine, LocalEngine
from experiments.status import epochs_budget
from experiments.studies import study_spec
from experiments.worker import WorkerSpec
from fusion import UsageError
from search.study import StudySpec


def check_engine(config: StudyConfig) -> None:
    """See to it that the engine of a study can be used; Ray is connected to, and started where no cluster runs.

    Raises:
        UsageError: Ray is not installed or does not answer, or its machines cannot share the study's storage.
    """
    if config.search.engine == "local":
        return
    if importlib.util.find_spec("ray") is None:
        raise UsageError("engine 'ray' needs Ray: pip install 'ehrfusion[ray]'")
    from experiments.ray_engine import check_storage, connect

    connect()
    check_storage(config.search.storage or "sqlite")


def make_engine(config: StudyConfig, study: optuna.Study) -> Engine:
    """Return the engine of a study."""
    spec = worker_spec(config, study)
    if config.search.engine == "local":
        return LocalEngine(spec)
    from experiments.ray_engine import RayEngine

    search = config.search
    return RayEngine(spec, search.cpus_per_worker, search.gpus_per_worker, search.placement_seconds)


def worker_spec(config: StudyConfig, study: optuna.Study) -> WorkerSpec:
    """Return what workers are told; its paths hold wherever a worker is, and what it needs is there or it says so."""
    folder, data = config.folder.resolve(), config.data.folder.resolve()
    there = {"runs": config.runs.resolve(), "data": config.data.model_copy(update={"folder": data})}
    return WorkerSpec(
        study=asdict(worker_study(config, study)),
        objective="experiments.objective:make_objective",
        space="experiments.studies:worker_space",
        settings=config.model_copy(update=there).model_dump(mode="json"),
        slot=0,
        log=str(folder / "workers" / "worker-0.log"),
        driver=os.getpid(),
        needs=(str(data), str(folder / "study.yaml")),
        devices=config.training.devices,
    )


def worker_study(config: StudyConfig, study: optuna.Study) -> StudySpec:
    """Return what a worker needs to take part, with the budget that its trials ask for."""
    return replace(study_spec(config), total_epochs=epochs_budget(config, study), total_flops=config.search.flops)
