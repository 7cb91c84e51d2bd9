"""The best of a search trained anew: many trials flatter the luckiest, so fresh seeds and a second fold decide."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bundle import save_bundle
from experiments.config import Config, StudyConfig, TrainingConfig, parse_config
from experiments.data.store import Store
from experiments.jobs import JobFailure, run_jobs
from experiments.kept import result_path
from experiments.objective import score_job, trial_training
from experiments.pretraining.use import artefacts, uses_artefact
from experiments.stackable import groups
from experiments.stacked import train_seeds
from experiments.studies import finalists, load_study
from experiments.train import NotFinite, selection_metric
from experiments.versions import package_versions
from experiments.whole import whole_file
from experiments.workspace import git_commit, open_store
from fusion import UsageError
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
class Finalists:
    """The best trials of a study, trained anew, and which of them won."""

    candidates: Sequence[Retrained]
    winner: Retrained

    def __str__(self) -> str:
        """Say how the architecture was chosen, in a line."""
        best, seeds = self.winner, len(self.winner.scores)
        if len(self.candidates) == 1:
            return f"trial {best.trial}"
        folds = " on two folds" if best.second else ""
        return f"trial {best.trial}, the best of {len(self.candidates)} trained anew with {seeds} seeds{folds}"


def best_finalist(
    config: StudyConfig,
    store: Store,
    *,
    top: int | None = None,
    seeds: int | None = None,
    pick: str = "best",
    workers: int = 1,
    progress: bool = True,
) -> Finalists:
    """Train the best trials of a study anew and choose by the mean tuning score.

    The best `top` are trained with `seeds` fresh seeds (both from `finalists` unless given), and, where the tuning
    split is large enough, on a second fold too, in which other training patients are tuned on; both folds count alike,
    because the search chose on the first. Another rule than `best` names one trial. What was trained before is not
    trained again.

    Raises:
        UsageError: the study has no finished trial, the rule leaves none, or every run failed.
    """
    top, seeds = top or config.finalists.top, seeds or config.finalists.seeds
    chosen = finalists(load_study(config), top if pick == "best" else 1, rule=pick)
    second = _second_fold(config, store) if len(chosen) > 1 else None
    if any(uses_artefact(candidate.architecture) for _, candidate in chosen):
        second = None  # it would tune on patients whom an encoder was pre-trained on
    retrained = _retrain(config, chosen, seeds, workers, progress, second)
    metric = selection_metric(store.task, config.training)
    return Finalists(retrained, (max if metric.higher_is_better else min)(retrained, key=lambda each: each.mean))


def retrain_job(settings: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Train one candidate with some seeds; return the tuning score and the folder of the bundle of each that finished.

    Several seeds are trained together, so they must be those that `groups` put together.
    """
    config = parse_config(settings["config"])
    store = open_store(config)
    candidate = Candidate.from_dict(settings["candidate"])
    training = trial_training(config.training, candidate)
    wanted = dict(zip(settings["seeds"], settings["folders"], strict=True))
    notes = {seed: _note(config, store, candidate, training, seed, folder) for seed, folder in wanted.items()}
    missing = [seed for seed, folder in wanted.items() if not (notes[seed].is_file() and Path(folder).is_dir())]
    failed = set()
    preprocess = config.data.preprocess
    fits = train_seeds(candidate.architecture, store, training, missing, preprocess=preprocess) if missing else ()
    for seed, fit in zip(missing, fits, strict=True):
        if isinstance(fit, NotFinite):
            failed.add(seed)
            continue
        fitted = {modality: store.preprocessor(plan) for modality, plan in fit.preparations.items()}
        contract = _contract(config, store, fitted, training, seed, settings["name"])
        model, plans = fit.model, fit.preparations
        folder = Path(wanted[seed])
        save_bundle(folder, model, candidate.architecture, store.task, fitted, plans, contract, {}, overwrite=True)
        _write_score(notes[seed], fit.score)
    return [(_read_score(notes[seed]), folder) for seed, folder in wanted.items() if seed not in failed]


def second_fold_job(settings: Mapping[str, Any]) -> float:
    """Train a candidate on the second fold with a seed, unless that was done before; return its tuning score."""
    config, candidate = parse_config(settings["config"]), Candidate.from_dict(settings["candidate"])
    training = trial_training(config.training, candidate)
    note = _note(config, open_store(config), candidate, training, settings["seed"])
    if not note.is_file():
        _write_score(note, score_job(settings))
    return _read_score(note)


def _note(
    config: Config, store: Store, candidate: Candidate, training: TrainingConfig, seed: int, bundle: str | None = None
) -> Path:
    """Return the file that keeps the score of a run; its name says all that the score depends on."""
    what = {"architecture": candidate.architecture.to_dict(), "training": training.model_dump(), "bundle": bundle}
    return result_path(config.runs / config.name / "register" / "scores", what, seed, config, store).with_suffix(
        ".json"
    )


def _write_score(note: Path, score: float) -> None:
    with whole_file(note) as temporary:
        temporary.write_text(json.dumps({"score": score}), encoding="utf-8")


def _read_score(note: Path) -> float:
    return float(json.loads(note.read_text(encoding="utf-8"))["score"])


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
    found = run_jobs(second_fold_job, jobs, workers, "second fold", progress)
    if any(isinstance(each, JobFailure) for each in found):
        return list(retrained)  # some with and some without a second fold could not be compared
    scores = [float(each) for each in found if not isinstance(each, JobFailure)]
    return [replace(each, second=tuple(scores[i * seeds : (i + 1) * seeds])) for i, each in enumerate(retrained)]


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
        "pretrained": artefacts(fitted),
        "versions": package_versions(),
    }
