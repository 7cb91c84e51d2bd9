"""Nested tuning: every strategy's own settings, chosen anew in each fold on patients that nobody is tested on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from encoders import ENCODERS
from experiments.compare_config import TuneConfig
from experiments.config import Config, StudyConfig, TrainingConfig, parse_config
from experiments.contenders import Contender
from experiments.data.folds import fold_store
from experiments.data.store import Store
from experiments.feeding import preparations
from experiments.jobs import JobFailure, run_jobs
from experiments.kept import result_path
from experiments.metrics import selection_metric
from experiments.section import Section, Table
from experiments.studies import NEEDS, SEARCHED
from experiments.train import train
from experiments.whole import whole_file
from experiments.workspace import open_store
from fusion import FUSIONS, Architecture, Spec
from search.space import Space

_STREAM = 3_000_017  # keeps the seeds of tuning apart from those of trials and of comparisons
_HEADS = ("strategy", "fold", "tuning score before", "after", "chosen settings")
_ATTEMPTS = 5  # draws of a candidate that was drawn before, until a small space is taken to have no other


@dataclass(frozen=True)
class Tuned:
    """What tuning chose for a strategy in a fold, and what it and the settings it started from scored."""

    strategy: str
    fold: int
    contender: Contender
    before: float
    after: float


def drawn(contender: Contender, config: Config, tune: TuneConfig) -> list[Contender]:
    """Return the candidates of a strategy: its own settings, then random ones from the space they have.

    Encoders and fusion keep their names. A hyperparameter has the range that a study's space gives it, or else the one
    in its signature; what an experiment states is pinned. Every strategy draws from the same seed.
    """
    if contender.architecture is None:
        return [contender]
    space = _space(contender.architecture, config, tune)
    sampler = optuna.samplers.RandomSampler(seed=_STREAM + config.seed)
    study = optuna.create_study(sampler=sampler)
    found = [contender]
    for _ in range(_ATTEMPTS * tune.trials):
        if len(found) == tune.trials:
            break
        candidate = space.suggest(study.ask())
        assert candidate is not None  # every modality has an encoder
        training = {**candidate.training, **contender.training}
        each = replace(contender, architecture=candidate.architecture, training=training)
        if each not in found:
            found.append(each)
    return found


def prepare(candidates: Mapping[str, Sequence[Contender]], stores: Sequence[Store], config: Config) -> None:
    """Prepare the data for every candidate."""
    plans: dict[str, Any] = {}
    for each in (each for several in candidates.values() for each in several):
        if each.architecture is not None:
            found = preparations(each.architecture, config.data.preprocess).values()
            plans |= {plan.key: plan for plan in found}
    for store in stores:
        store.prepare(list(plans.values()))


def tune(
    config: Config,
    strategies: Mapping[str, Contender],
    training: TrainingConfig,
    stores: Sequence[Store],
    folder: Path,
    workers: int,
    progress: bool,
) -> list[Tuned]:
    """Choose each strategy's settings by their score on the tuning patients of each fold.

    A candidate that fails is not chosen; where all fail, the strategy keeps the settings it had, as controls do.
    """
    assert config.compare.tune is not None
    candidates = {name: drawn(each, config, config.compare.tune) for name, each in strategies.items()}
    prepare(candidates, stores, config)
    places = [
        (name, fold, each)
        for fold in range(len(stores))
        for name, several in candidates.items()
        if several[0].architecture is not None
        for each in several
    ]
    shared = {"config": config.model_dump(mode="json"), "folder": str(folder / "tuning")}
    jobs = [{**shared, "contender": each.plain(training), "fold": fold} for _, fold, each in places]
    scores = run_jobs(run_tuning_job, jobs, workers, "tuning", progress)
    by_place: dict[tuple[str, int], list[tuple[float, Contender]]] = {}
    for (name, fold, each), score in zip(places, scores, strict=True):
        by_place.setdefault((name, fold), []).append((math.nan if isinstance(score, JobFailure) else score, each))
    higher = selection_metric(stores[0].task, training).higher_is_better
    return [_chosen(name, fold, several, higher) for (name, fold), several in by_place.items()]


def run_tuning_job(settings: Mapping[str, Any]) -> float:
    """Train a candidate and return its score on the tuning patients of a fold; what was scored before is read."""
    config, contender = parse_config(settings["config"]), settings["contender"]
    compare, fold = config.compare, settings["fold"]
    store = fold_store(open_store(config), compare.folds or 1, fold, config.data.splits, compare.folds_by)
    seed = _STREAM + config.seed
    path = result_path(Path(settings["folder"]), contender, seed, config, store).with_suffix(".json")
    if not path.is_file():
        training = TrainingConfig.model_validate(contender["training"])
        architecture = Architecture.from_dict(contender["architecture"])
        fit = train(architecture, store, training, seed, preprocess=config.data.preprocess)
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps({"score": fit.score}), encoding="utf-8")
    return float(json.loads(path.read_text(encoding="utf-8"))["score"])


def tuning_section(tuned: Sequence[Tuned], tune: TuneConfig) -> Section:
    """Return the part of the report on what was chosen."""
    rows = [[each.strategy, each.fold + 1, each.before, each.after, _said(each.contender)] for each in tuned]
    kept = sum(each.after == each.before for each in tuned)
    words = (
        f"Each strategy had {tune.trials} settings tried in each fold, its own first, and goes on with the one that "
        f"scored best on tuning patients; held-out patients had no part in it. {kept} of {len(tuned)} kept their own."
    )
    return Section("What tuning chose", [words], {"tuning": Table(_HEADS, rows)})


def _said(contender: Contender) -> str:
    """Return the settings of a contender in one line."""
    assert contender.architecture is not None
    plain = contender.architecture.to_dict()
    specs = {**plain["encoders"], "fusion": plain["fusion"]}
    inner = {f"{name}.{key}": value for name, spec in specs.items() for key, value in spec.items() if key != "name"}
    settings = {"dim": plain["dim"], **inner, **contender.training}
    shown = {name: f"{value:.3g}" if isinstance(value, float) else str(value) for name, value in settings.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _chosen(name: str, fold: int, scored: Sequence[tuple[float, Contender]], higher: bool) -> Tuned:
    """Return the best candidate; the first is the one that was there, and wins a tie."""
    sign = 1 if higher else -1
    score, best = max(scored, key=lambda each: sign * each[0] if math.isfinite(each[0]) else -math.inf)
    return Tuned(name, fold, best, scored[0][0], score)


def _space(architecture: Architecture, config: Config, tune: TuneConfig) -> Space:
    """Return the space of one architecture's hyperparameters and of the training settings that are tuned."""
    study = config.space if isinstance(config, StudyConfig) else None
    encoders = {
        modality: {spec.name: _stated(study.encoders.get(modality) if study else None, spec, pin=study is None)}
        for modality, spec in architecture.encoders.items()
    }
    fusion = architecture.fusion
    data = {
        "encoders": encoders,
        "fusion": {fusion.name: _stated(study.fusion if study else None, fusion, pin=study is None)},
        "dim": study.dim if study else architecture.dim,
        "training": tune.training,
    }
    return Space.from_dict(data, ENCODERS, FUSIONS, SEARCHED, NEEDS)


def _stated(written: Any, spec: Spec, *, pin: bool) -> Mapping[str, Any]:
    """Return what a study's space says about a component, or what an experiment pins."""
    if pin:
        return spec.params
    return (written.get(spec.name) or {}) if isinstance(written, Mapping) else {}
