"""What a trial does: train the candidate, report every epoch, return its score on the tuning split."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.checkpoint import remove_checkpoint
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.device import pick_device, release_memory
from experiments.train import NotFinite, Stopped, train
from experiments.workspace import open_store
from fusion.component import UsageError
from search.space import Candidate
from search.trial import Interrupted, Objective, Pruned, TrialFailed, TrialHandle


def make_objective(settings: Mapping[str, Any]) -> Objective:
    """Open the data of a study once and return the function that runs its trials in this process."""
    config = parse_config(settings)
    if not isinstance(config, StudyConfig):
        raise UsageError(f"'{config.name}' is an experiment; a search needs a study")
    store = open_store(config)
    folder = config.folder / "checkpoints"

    def objective(candidate: Candidate, trial: TrialHandle) -> float:
        checkpoint = folder / f"{trial.root}.safetensors"
        try:
            value = _run(config, store, candidate, trial, checkpoint)
        except (Pruned, TrialFailed):
            remove_checkpoint(checkpoint)
            raise
        finally:
            release_memory(pick_device())
        remove_checkpoint(checkpoint)
        return value

    return objective


def trial_training(base: TrainingConfig, candidate: Candidate) -> TrainingConfig:
    """Return the training settings of a trial: the study's, with what the search chose."""
    return TrainingConfig.model_validate({**base.model_dump(), **candidate.training})


def _run(config: StudyConfig, store: Any, candidate: Candidate, trial: TrialHandle, checkpoint: Path) -> float:
    limit = config.search.trial_seconds
    deadline = time.monotonic() + limit if limit else None

    def should_stop() -> bool:
        if deadline is not None and time.monotonic() > deadline:
            raise TrialFailed(f"longer than the {limit:g} s a trial may take")
        return trial.should_stop()

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        trial.report(epoch, metrics["score"], {k: v for k, v in metrics.items() if k not in ("score", "epoch")})

    try:
        fit = train(
            candidate.architecture,
            store,
            trial_training(config.training, candidate),
            trial.seed,
            preprocess=config.data.preprocess,
            on_epoch=on_epoch,
            should_stop=should_stop,
            checkpoint=checkpoint,
        )
    except Stopped as stop:
        raise Interrupted(str(stop)) from None
    except (NotFinite, UsageError) as error:
        raise TrialFailed(str(error)) from None
    trial.note(
        best_epoch=fit.best_epoch,
        seconds=round(fit.seconds, 3),
        parameters=fit.parameters,
        peak_memory_mb=round(fit.peak_memory_mb, 1),
    )
    return fit.score
