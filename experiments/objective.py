"""What a trial does: train the candidate, report every epoch, return its score on the tuning split."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from encoders.preprocessor import Preparation
from experiments.checkpoint import remove_checkpoint
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.costs import Judge
from experiments.data.store import Store
from experiments.device import peak_memory_mb, pick_device, release_memory
from experiments.feeding import sources
from experiments.studies import preparations_of, study_shares, study_space
from experiments.subgroups import Subgroups, subgroups
from experiments.train import NotFinite, Stopped, selection_metric, train
from experiments.workspace import open_store
from fusion import FusionModel, UsageError
from search.failures import OUT_OF_MEMORY, is_out_of_memory, is_poisoned
from search.objectives import over_limits
from search.space import Candidate
from search.trial import Interrupted, Objective, Paused, Pruned, TrialFailed, TrialHandle, too_long


def make_objective(settings: Mapping[str, Any]) -> Objective:
    """Open the data of a study once and return the function that runs its trials in this process."""
    config = parse_config(settings)
    if not isinstance(config, StudyConfig):
        raise UsageError(f"'{config.name}' is an experiment; a search needs a study")
    store = open_store(config)
    folder, device = config.folder / "checkpoints", pick_device()
    judge = make_judge(config, store)

    def objective(candidate: Candidate, trial: TrialHandle) -> Sequence[float]:
        checkpoint = folder / f"{trial.root}.safetensors"
        try:
            values = _run(config, store, candidate, trial, checkpoint, judge)
        except (Paused, Interrupted):
            raise  # it goes on from its checkpoint
        except Exception as error:
            if is_poisoned(error):
                raise  # it is run once more, by another process
            remove_checkpoint(checkpoint)
            if not is_out_of_memory(error):
                raise
        else:
            remove_checkpoint(checkpoint)
            return values
        finally:
            release_memory(device)
        # here the error is gone, and with it the frames that held the trial's tensors
        trial.note(peak_memory_mb=round(peak_memory_mb(device), 1))
        raise TrialFailed(OUT_OF_MEMORY)

    return objective


def trial_training(base: TrainingConfig, candidate: Candidate) -> TrainingConfig:
    """Return the training settings of a trial: the study's, with what the search chose."""
    return TrainingConfig.model_validate({**base.model_dump(), **candidate.training})


def score_job(settings: Mapping[str, Any]) -> float:
    """Train a candidate with a seed, outside of any study, and return its tuning score."""
    config, candidate = parse_config(settings["config"]), Candidate.from_dict(settings["candidate"])
    training, store = trial_training(config.training, candidate), open_store(config)
    return train(candidate.architecture, store, training, settings["seed"], preprocess=config.data.preprocess).score


def make_judge(config: StudyConfig, store: Store) -> Judge:
    """Return what measures the objectives and limits of a study beside its metric."""
    search = config.search
    plans: dict[str, Preparation] = {}
    if "worst_subgroup" in search.objectives:
        for plan in preparations_of(study_space(config), config):
            plans.setdefault(plan.modality, plan)
    groups = subgroups(store, list(plans.values()), search.subgroups) if plans else Subgroups({})
    metric = selection_metric(store.task, config.training).name
    return Judge(store, metric, (*search.objectives, *search.limits), groups, pick_device())


def _run(
    config: StudyConfig, store: Store, candidate: Candidate, trial: TrialHandle, checkpoint: Path, judge: Judge
) -> Sequence[float]:
    limit = config.search.trial_seconds
    started = time.monotonic()

    def should_stop() -> bool:
        if limit is not None and time.monotonic() - started > limit:
            raise TrialFailed(too_long(limit))
        return trial.should_stop()

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        trial.report(epoch, metrics["score"], {k: v for k, v in metrics.items() if k not in ("score", "epoch")})

    costs: dict[str, float] = {}

    def measure(model: FusionModel, feeds: Mapping[str, Any]) -> None:
        costs.update(judge.before(model, feeds))
        _check_limits(trial, costs, config.search.limits)

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
            on_model=measure,
            shares=study_shares(config),
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
        patients_at_once=fit.patients_at_once,
    )
    costs["memory_mb"] = fit.peak_memory_mb
    if judge.wanted:
        feeds = sources(fit.model, fit.preparations, store, ("tuning",), judge.device)
        costs |= judge.after(fit.model, feeds)
        trial.note(costs=costs)
        if "worst_subgroup" in judge.wanted:
            trial.note(subgroups=len(judge.groups.members), subgroups_left_out=judge.groups.left_out)
        trial.over(over_limits({"memory_mb": fit.peak_memory_mb}, config.search.limits))
    known = {**fit.history[fit.best_epoch - 1], **costs}
    return [fit.score, *(known[name] for name in config.search.objectives)]


def _check_limits(trial: TrialHandle, costs: Mapping[str, float], limits: Mapping[str, float]) -> None:
    """End a trial that is over a limit before it is trained.

    Raises:
        Pruned: with the first limit it is over.
    """
    over = over_limits(costs, limits)
    if over.get("memory_mb", 0.0) <= 0:
        over.pop("memory_mb", None)  # what training needs at least; measured again afterwards
    trial.note(costs=dict(costs))
    trial.over(over)
    for name, share in over.items():
        if share > 0:
            trial.note(pruned_by=f"{name} {costs[name]:.4g}, limit {limits[name]:.4g}")
            raise Pruned(f"over the limit of {name}")
