"""From a study to a registered model: retrain the best with fresh seeds, pick on tuning, evaluate once, register."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit.gate import NOT_RUN, gate
from experiments.bundle import load_bundle, save_bundle
from experiments.comparison import evaluate_predictions
from experiments.config import StudyConfig, TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import preparations
from experiments.frequent import codes_in_words
from experiments.glossary import read_glossary
from experiments.jobs import JobFailure, run_jobs
from experiments.metrics import metric_name
from experiments.objective import score_job, trial_training
from experiments.slots import default_workers
from experiments.stackable import groups
from experiments.stacked import train_seeds
from experiments.statistics.intervals import Interval
from experiments.studies import finalists, load_study
from experiments.train import NotFinite, selection_metric
from experiments.versions import package_versions
from experiments.workspace import git_commit, open_store
from fusion import Architecture, UsageError
from search.space import Candidate

_FRESH = 1_000_003  # keeps the seeds of retraining apart from those of trials and comparisons
_ENOUGH = 20  # tuning patients of the rarest class, for a second fold to say anything


@dataclass(frozen=True)
class Retrained:
    """One architecture trained anew: the tuning score and the bundle of every seed, and scores on a second fold."""

    trial: int
    candidate: Candidate
    scores: tuple[float, ...]
    bundles: tuple[Path, ...]
    second: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """The mean tuning score over fresh seeds and folds, by which architectures are chosen."""
        return float(np.mean([np.mean(each) for each in (self.scores, self.second) if each]))


@dataclass(frozen=True)
class Registration:
    """What was registered, how it was chosen and what it scored, once, on the held-out split."""

    name: str
    version: int
    aliases: tuple[str, ...]
    metric: str
    candidates: Sequence[Retrained]
    winner: Retrained
    held_out: Mapping[str, Interval]
    bundle: Path

    def render(self) -> Any:
        """Return rich tables: what was retrained, and the held-out metrics with their intervals."""
        from rich.console import Group
        from rich.table import Table

        metric = metric_name(self.metric)
        choice = Table("trial", "architecture", f"tuning {metric}, fresh seeds", "second fold", "", title="retrained")
        for each in self.candidates:
            folds = [_written(scores) for scores in (each.scores, each.second)]
            chosen = "chosen" if each is self.winner else ""
            choice.add_row(str(each.trial), short(each.candidate.architecture), *folds, chosen)
        title = f"{self.name} version {self.version} ({', '.join(self.aliases)}): held out, evaluated once"
        table = Table("metric", "value", "95% interval", title=title)
        for metric, found in self.held_out.items():
            table.add_row(metric_name(metric), f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")
        return Group(choice, table, f"bundle: {self.bundle}")


def register_study(
    config: StudyConfig,
    name: str,
    *,
    top: int = 3,
    seeds: int = 3,
    pick: str = "best",
    promote: bool = False,
    workers: int | None = None,
    progress: bool = True,
    audit: bool = True,
) -> Registration:
    """Register the best model of a study.

    The best `top` architectures are trained with `seeds` fresh seeds, because the best of many trials flatters; the
    best mean on the tuning split wins, with its best seed. Where the tuning split is large enough, they are trained on
    a second fold too, in which other training patients are tuned on, and both folds count alike: the search chose on
    the first. Only the winner sees the held-out split, once, and the look is written down in `held_out.jsonl`.

    Another rule than `best` names one trial (see `search.objectives.picked`), and that one is registered. A leakage
    audit must pass first, unless `audit` is off, which the card says.
    Raises:
        UsageError: the study has no finished trial, the rule leaves none, the audit fails, every run failed, or the
            registry does not answer.
    """
    from experiments.tracking import registry
    from experiments.tracking.runs import connect, study_run

    registry.check_name(name)
    read_glossary(config.card.glossary)  # what is wrong with it is said before anything is trained
    study = load_study(config)
    connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
    store = open_store(config, progress=progress)
    chosen_from = finalists(study, top if pick == "best" else 1, rule=pick)
    second = _second_fold(config, store) if len(chosen_from) > 1 else None
    audited = gate(config, store, progress=progress) if audit else NOT_RUN
    retrained = _retrain(
        config, chosen_from, seeds, workers or default_workers(config.training.devices), progress, second
    )
    metric = selection_metric(store.task, config.training)
    winner = (max if metric.higher_is_better else min)(retrained, key=lambda each: each.mean)
    chosen = int((np.argmax if metric.higher_is_better else np.argmin)(winner.scores))
    bundle, held_out = _evaluate_once(config, store, winner, winner.bundles[chosen], {"name": name, "audit": audited})
    values = {key: found.value for key, found in held_out.items()}
    parent = study_run(connection, study.user_attrs["study_key"])
    registered = registry.register(bundle, name, connection, metrics=values, parent=parent, tags={"study": config.name})
    if promote:
        registry.promote(connection, name)
    aliases = ("candidate", "champion") if promote else ("candidate",)
    return Registration(name, registered.version, aliases, metric.name, retrained, winner, held_out, bundle)


def retrain_job(settings: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Train one candidate with some seeds; return the tuning score and the folder of the bundle of each that finished.

    Several seeds are trained together, so they must be those that `groups` put together.
    """
    config = parse_config(settings["config"])
    store = open_store(config)
    candidate = Candidate.from_dict(settings["candidate"])
    training, seeds = trial_training(config.training, candidate), list(settings["seeds"])
    done = []
    fits = train_seeds(candidate.architecture, store, training, seeds, preprocess=config.data.preprocess)
    for seed, folder, fit in zip(seeds, settings["folders"], fits, strict=True):
        if isinstance(fit, NotFinite):
            continue
        fitted = {modality: store.preprocessor(plan) for modality, plan in fit.preparations.items()}
        contract = _contract(config, store, fitted, training, seed, settings["name"])
        plans = fit.preparations
        model, architecture = fit.model, candidate.architecture
        save_bundle(Path(folder), model, architecture, store.task, fitted, plans, contract, {}, overwrite=True)
        done.append((fit.score, folder))
    return done


def _retrain(
    config: StudyConfig,
    chosen: Sequence[tuple[Any, Candidate]],
    seeds: int,
    workers: int,
    progress: bool,
    second: dict[str, Any] | None = None,
) -> list[Retrained]:
    if not chosen:
        raise UsageError(f"study '{config.name}' has no finished trial; see: ehrfusion search {config.name} --status")
    shared = {"config": config.model_dump(mode="json"), "name": config.name}
    jobs, owners = [], []
    for owner, (_, candidate) in enumerate(chosen):
        training = trial_training(config.training, candidate)
        for seeds_together in groups(candidate.architecture, training, range(seeds)):
            folders = [str(config.folder / "register" / f"{candidate.key}-{seed}") for seed in seeds_together]
            fresh = [_FRESH + seed for seed in seeds_together]
            jobs.append({**shared, "candidate": candidate.to_dict(), "seeds": fresh, "folders": folders})
            owners.append(owner)
    found = run_jobs(retrain_job, jobs, workers, "retraining", progress)
    retrained = []
    for i, (trial, candidate) in enumerate(chosen):
        mine = [each for each, owner in zip(found, owners, strict=True) if owner == i]
        good = [one for each in mine if not isinstance(each, JobFailure) for one in each]
        if good:
            scores, bundles = zip(*good, strict=True)
            retrained.append(Retrained(trial.number, candidate, scores, tuple(Path(each) for each in bundles)))
    if second is not None and len(retrained) > 1:
        return _on_second_fold(second, retrained, seeds, workers, progress)
    if not retrained:
        reasons = [each.reason for each in found if isinstance(each, JobFailure)] or ["the loss is not finite"]
        raise UsageError(f"every retraining failed: {reasons[0]}")
    return retrained


def _second_fold(config: StudyConfig, store: Store) -> dict[str, Any] | None:
    """Return the settings of another deal of train and tuning patients, where the tuning split can afford it."""
    task, targets = store.task, store.cohort.targets[store.cohort.rows("tuning")]
    if config.data.splits.by not in ("folder", "patient") or task.kind == "multilabel":
        return None
    rarest = len(targets) if task.kind == "regression" else int(np.unique(targets, return_counts=True)[1].min())
    if rarest < _ENOUGH:
        return None
    settings = config.model_dump(mode="json")
    settings["data"]["splits"]["fold"] = config.data.splits.fold + 1
    return settings


def _on_second_fold(
    settings: dict[str, Any], retrained: Sequence[Retrained], seeds: int, workers: int, progress: bool
) -> list[Retrained]:
    jobs = [
        {"config": settings, "candidate": each.candidate.to_dict(), "seed": _FRESH + seed}
        for each in retrained
        for seed in range(seeds)
    ]
    found = run_jobs(score_job, jobs, workers, "second fold", progress)
    if any(isinstance(each, JobFailure) for each in found):
        return list(retrained)  # some with and some without a second fold could not be compared
    scores = [float(each) for each in found if not isinstance(each, JobFailure)]
    return [replace(each, second=tuple(scores[i * seeds : (i + 1) * seeds])) for i, each in enumerate(retrained)]


def _written(scores: Sequence[float]) -> str:
    return f"{np.mean(scores):.4f} (" + ", ".join(f"{score:.4f}" for score in scores) + ")" if scores else ""


def _evaluate_once(
    config: StudyConfig, store: Store, winner: Retrained, bundle: Path, about: Mapping[str, str]
) -> tuple[Path, dict[str, Interval]]:
    """Evaluate the chosen model on the held-out split, write the look down, and bundle it with what it scored."""
    predictor = load_bundle(bundle)
    plans = preparations(predictor.architecture, config.data.preprocess)
    rows = store.cohort.rows("held_out")
    found = squeeze_outputs(store.task, predict_rows(predictor.model, plans, store, rows))
    targets, whose = store.cohort.targets[rows], store.cohort.subject_ids[rows]
    held_out = evaluate_predictions(store.task, targets, whose, found, resamples=config.compare.resamples)
    _write_look(config.folder / "held_out.jsonl", about["name"], winner, held_out)
    metrics = {key: {"value": each.value, "low": each.low, "high": each.high} for key, each in held_out.items()}
    target = config.folder / "register" / about["name"]
    save_bundle(
        target,
        predictor.model.cpu(),
        predictor.architecture,
        store.task,
        predictor.preprocessors,
        plans,
        {**predictor.contract, **about, "codes_in_words": codes_in_words(config, store, plans)},
        metrics,
        overwrite=True,
    )
    return target, held_out


def _contract(
    config: StudyConfig | Any, store: Store, fitted: Mapping[str, Any], training: TrainingConfig, seed: int, study: str
) -> dict[str, Any]:
    """Say what the model is for and where it comes from."""
    codes = getattr(fitted.get("codes"), "codes", ())
    cohort = store.cohort
    return {
        "study": study,
        "dataset": store.dataset.metadata.get("dataset_name", store.dataset.folder.name),
        "label": config.data.labels,
        "window_days": config.data.window_days,
        "bad_images": config.data.bad_images,
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": cohort.split_fingerprint,
        "code_vocabulary": len(codes),
        "code_vocabulary_sha256": hashlib.sha256("\n".join(codes).encode()).hexdigest(),
        "cohort": {split: len(cohort.rows(split)) for split in ("train", "tuning", "held_out")},
        "git_commit": git_commit(),
        "seed": seed,
        "training": training.model_dump(),
        "versions": package_versions(),
    }


def _write_look(path: Path, name: str, winner: Retrained, held_out: Mapping[str, Interval]) -> None:
    """Append to the record of every look at the held-out split."""
    look = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "model": name,
        "candidate": winner.candidate.key,
        "metrics": {key: each.value for key, each in held_out.items()},
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(look) + "\n")
        file.flush()
        os.fsync(file.fileno())


def short(architecture: Architecture) -> str:
    """Name an architecture in a line."""
    encoders = " + ".join(f"{modality} {spec.name}" for modality, spec in architecture.encoders.items())
    return f"{architecture.fusion.name} of {encoders}, width {architecture.dim}"
