"""What a trial does: train the candidate, report every epoch, return its score on the tuning split."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoders.preprocessor import Preparation
from experiments.checkpoint import remove_checkpoint
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.costs import Judge, training_flops
from experiments.data.store import Store
from experiments.device import peak_memory_mb, pick_device, release_memory
from experiments.feeding import sources
from experiments.remote import Place
from experiments.stackable import Member, Watch, can_stack, may_differ
from experiments.stacked import train_stacked
from experiments.studies import preparations_of, study_shares, study_space
from experiments.subgroups import Subgroups, subgroups
from experiments.train import Fit, NotFinite, Stopped, selection_metric, train
from experiments.workspace import open_store
from fusion import FusionModel, UsageError
from search.failures import OUT_OF_MEMORY, is_out_of_memory, is_poisoned
from search.objectives import over_limits
from search.space import Candidate
from search.trial import Ending, Interrupted, Paused, Pruned, Started, TrialFailed, TrialHandle, too_long


def make_objective(settings: Mapping[str, Any]) -> StudyObjective:
    """Open the data of a study once and return what runs its trials in this process."""
    config = parse_config(settings)
    if not isinstance(config, StudyConfig):
        raise UsageError(f"'{config.name}' is an experiment; a search needs a study")
    store = open_store(config)
    return StudyObjective(config, store, make_judge(config, store))


@dataclass(frozen=True)
class StudyObjective:
    """Runs the trials of a study: each alone, or several of one structure together."""

    config: StudyConfig
    store: Store
    judge: Judge

    def __call__(self, candidate: Candidate, trial: TrialHandle) -> Sequence[float]:
        """Run one trial."""
        task = self._task(candidate, trial)

        def run() -> Sequence[float]:
            fit = train(
                candidate.architecture,
                self.store,
                task.training,
                trial.seed,
                preprocess=self.config.data.preprocess,
                on_epoch=task.on_epoch,
                should_stop=task.should_stop,
                checkpoint=task.checkpoint,
                on_model=task.on_model,
                shares=study_shares(self.config),
            )
            return task.values(fit)

        return _ended_well(task, run)

    def may_differ(self, parameter: str) -> bool:
        """Tell whether trials that are trained together may differ in a parameter of the search."""
        return may_differ(parameter)

    def can_stack(self, candidate: Candidate) -> bool:
        """Tell whether trials of this structure can be trained together."""
        member = Member(candidate.architecture, trial_training(self.config.training, candidate), 0)
        return can_stack([member, member])

    def together(self, trials: Sequence[Started]) -> list[Ending]:
        """Train trials together and return of each its scores, or how it ended early."""
        tasks = [self._task(each.candidate, each.handle, among=len(trials)) for each in trials]
        members = [
            Member(
                task.candidate.architecture,
                task.training,
                task.trial.seed,
                Watch(task.on_epoch, task.should_stop, task.checkpoint, task.on_model),
            )
            for task in tasks
        ]
        shares, preprocess = study_shares(self.config), self.config.data.preprocess
        try:
            fits = train_stacked(members, self.store, preprocess=preprocess, shares=shares)
            return [_ending(task, fit) for task, fit in zip(tasks, fits, strict=True)]
        finally:
            release_memory(self.judge.device)

    def _task(self, candidate: Candidate, trial: TrialHandle, among: int = 1) -> _Task:
        checkpoint = self.config.checkpoint(trial.root)
        training = trial_training(self.config.training, candidate)
        return _Task(self.config, self.store, self.judge, candidate, trial, training, checkpoint, among)


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
    tuning = store.cohort.rows("tuning")
    groups = subgroups(store, tuning, list(plans.values()), search.subgroups) if plans else Subgroups({})
    metric = selection_metric(store.task, config.training).name
    wanted = [*search.objectives, *search.limits]
    if search.flops is not None and "flops" not in wanted:
        wanted.append("flops")  # the budget is counted in them
    return Judge(store, metric, tuple(wanted), groups, pick_device())


class _Task:
    """One trial while it is trained: what it reports, when it must end, and what it is worth."""

    def __init__(
        self,
        config: StudyConfig,
        store: Store,
        judge: Judge,
        candidate: Candidate,
        trial: TrialHandle,
        training: TrainingConfig,
        checkpoint: Place,
        among: int,
    ) -> None:
        self.config, self.store, self.judge, self.candidate, self.trial = config, store, judge, candidate, trial
        self.training, self.checkpoint = training, checkpoint
        self.started, limit = time.monotonic(), config.search.trial_seconds
        self.limit = among * limit if limit is not None else None  # they share the time
        self.costs: dict[str, float] = {}
        self.patients = len(store.cohort.rows("train"))

    def should_stop(self) -> bool:
        """Tell whether the trial is asked to end.

        Raises:
            TrialFailed: it has taken too long.
        """
        if self.limit is not None and time.monotonic() - self.started > self.limit:
            raise TrialFailed(too_long(self.limit))
        return self.trial.should_stop()

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report an epoch."""
        entry = {name: value for name, value in metrics.items() if name not in ("score", "epoch")}
        if "flops" in self.costs:
            entry["flops"] = training_flops(self.costs["flops"], self.patients) * metrics.get("share", 1.0)
        self.trial.report(epoch, metrics["score"], entry)

    def on_model(self, model: FusionModel, feeds: Mapping[str, Any]) -> None:
        """Measure a network before it is trained."""
        self.costs.update(self.judge.before(model, feeds))
        _check_limits(self.trial, self.costs, self.config.search.limits)

    def values(self, fit: Fit) -> Sequence[float]:
        """Note what a trained trial took and return its objectives."""
        trial, search, judge, costs = self.trial, self.config.search, self.judge, self.costs
        trial.note(
            best_epoch=fit.best_epoch,
            seconds=round(fit.seconds, 3),
            parameters=fit.parameters,
            peak_memory_mb=round(fit.peak_memory_mb, 1),
            patients_at_once=fit.patients_at_once,
        )
        costs["memory_mb"] = fit.peak_memory_mb
        if judge.wanted:
            feeds = sources(fit.model, fit.preparations, self.store, ("tuning",), judge.device)
            costs |= judge.after(fit.model, feeds)
            trial.note(costs=costs)
            if "worst_subgroup" in judge.wanted:
                trial.note(subgroups=len(judge.groups.members), subgroups_left_out=len(judge.groups.left_out))
            trial.over(over_limits({"memory_mb": fit.peak_memory_mb}, search.limits))
        known = {**fit.history[fit.best_epoch - 1], **costs}
        return [fit.score, *(known[name] for name in search.objectives)]


def _ended_well(task: _Task, run: Callable[[], Sequence[float]]) -> Sequence[float]:
    """Say in the words of the search how a trial ended, and keep its checkpoint only where it may go on."""
    try:
        values = run()
    except (Paused, Interrupted):
        raise
    except Stopped as stop:
        raise Interrupted(str(stop)) from None
    except (NotFinite, UsageError) as error:
        remove_checkpoint(task.checkpoint)
        raise TrialFailed(str(error)) from None
    except Exception as error:
        if is_poisoned(error):
            raise  # it is run once more, by another process
        remove_checkpoint(task.checkpoint)
        if not is_out_of_memory(error):
            raise
    else:
        remove_checkpoint(task.checkpoint)
        return values
    finally:
        release_memory(task.judge.device)
    # here the error is gone, and with it the frames that held the trial's tensors
    task.trial.note(peak_memory_mb=round(peak_memory_mb(task.judge.device), 1))
    raise TrialFailed(OUT_OF_MEMORY)


def _ending(task: _Task, fit: Fit | Exception) -> Ending:
    def run() -> Sequence[float]:
        if isinstance(fit, Exception):
            raise fit
        return task.values(fit)

    try:
        return _ended_well(task, run)
    except Exception as end:
        return end


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
