"""Run a comparison: every fusion and every single modality with the same encoders, budget and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.audit.gate import NOT_RUN, gate_folds
from experiments.audit.sites import nobody_in_both
from experiments.coalitions import MOST, coalition_predictions, mean_weights, who_has
from experiments.comparison import Comparison, compare_predictions
from experiments.comparison_files import write_comparison
from experiments.config import Config, ExperimentConfig, StudyConfig, TrainingConfig, parse_config
from experiments.contenders import BY, Contender, chosen, contenders, without_control
from experiments.controls import CONTROLS
from experiments.controls import plan as control_plan
from experiments.data.external import external_store
from experiments.data.folds import USUAL, fold_store, usual_folds
from experiments.data.store import Store
from experiments.evaluate import predict_rows
from experiments.feeding import preparations
from experiments.held_out import held_out_rows, with_predictions
from experiments.jobs import JobFailure, run_jobs
from experiments.kept import result_path
from experiments.metrics import primary_metric
from experiments.nested import tune, tuning_section
from experiments.planning import about_comparison, power_line, registered_primary
from experiments.pretraining.use import uses_artefact
from experiments.reporting.reproducibility import reproduction
from experiments.retraining import best_finalist
from experiments.sections import Findings, sections
from experiments.slots import default_workers
from experiments.stackable import groups
from experiments.stacked import train_seeds
from experiments.train import Fit, NotFinite, selection_metric
from experiments.whole import whole_file
from experiments.work import Work, with_equal_work
from experiments.workspace import open_store
from fusion import Architecture, UsageError

_FRESH = 2_000_003  # keeps the seeds of comparisons apart from those of trials


def compare_config(
    config: Config,
    *,
    by: str = "fusion",
    seeds: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    announce: Callable[[str], None] = lambda _: None,
    audit: bool = True,
) -> tuple[Comparison, Path]:
    """Compare strategies of fusion or of training on held-out patients, for an experiment or a study's best trial.

    A study's best trials are trained anew first, as `register` does, and what is best then is compared. Held out is the
    split of that name, or, with `compare.folds`, each fold of all patients once. Runs that were done before are not
    done again, so an interrupted comparison goes on where it was.

    Args:
        config: what is compared.
        by: fusions, or ways to train.
        seeds: instead of `compare.seeds`.
        workers: processes.
        progress: whether to show it.
        announce: is told, before anything is trained, the smallest difference that these patients could show.
        audit: whether a leakage audit must pass first; the report says if none was run.

    Raises:
        UsageError: there is nothing to compare, the study has no finished trial, there are too few patients for the
            folds, or the audit fails.
    """
    if by not in BY:
        raise UsageError(f"can compare by {' or '.join(BY)}; got '{by}'")
    chosen(config)  # where there is nothing to compare, that is said before anything is done
    folder = config.runs / config.name / ("compare" if by == "fusion" else f"compare-{by}")
    store = open_store(config, progress=progress)
    config, fewer = _with_folds(config, store)
    folds, by_whom = range(config.compare.folds or 1), config.compare.folds_by
    stores = [fold_store(store, len(folds), fold, config.data.splits, by_whom) for fold in folds]
    externals = _externals(config, stores)
    elsewhere = nobody_in_both(store, externals[0]) if externals else ""
    audited = gate_folds(config, stores, progress=progress) if audit else NOT_RUN
    many = workers or default_workers(config.training.devices)
    found = best_finalist(config, store, workers=many, progress=progress) if isinstance(config, StudyConfig) else None
    subject = chosen(config, found)
    primary = primary_metric(store.task, config.compare, subject.training)
    strategies = contenders(subject, by=by, controls=config.compare.controls)
    tested = held_out_rows(stores)
    power = power_line(config, store.task, tested, len(strategies), primary)
    announce(power)
    plans = list(preparations(subject.architecture, config.data.preprocess).values())
    for each in (*stores, *externals):
        each.prepare([*plans, *([control_plan()] if any(c.control for c in strategies.values()) else [])], progress)
    works: dict[str, Work] = {}
    if config.compare.equal == "flops":
        strategies, works = with_equal_work(
            strategies, subject.architecture, subject.training, stores[0], config.data.preprocess
        )
    stated, remarks = registered_primary(folder, primary, stated=config.compare.primary is not None)
    remarks += fewer + without_control(subject, config.compare.controls)
    if audited == NOT_RUN:
        remarks.append("nobody knows whether something leaks: the leakage audit was left out (--no-audit)")
    count = seeds or config.compare.seeds
    tuned = tune(config, strategies, subject.training, stores, folder, many, progress) if config.compare.tune else []
    by_fold = [{**strategies, **{each.strategy: each.contender for each in tuned if each.fold == k}} for k in folds]
    done = _run(config, folder, by_fold, subject.training, count, many, progress)
    held_out = with_predictions(tested, store, done)
    about = about_comparison(config, store, subject, held_out, count, remarks)
    about |= {"primary": stated, "power": power, "audit": audited} | ({"external": elsewhere} if externals else {})
    about["again"] = reproduction(config, by, count, audit=audit)
    comparison = compare_predictions(
        store.task,
        held_out.target,
        held_out.subject_ids,
        held_out.predictions,
        {name: each.kind for name, each in strategies.items()},
        fold=held_out.fold,
        metric=primary,
        resamples=config.compare.resamples,
        seed=config.seed,
        bca=config.compare.interval == "bca",
        equivalence=config.compare.equivalence,
        about=about | ({"work": _work(works)} if works else {}),
    )
    parts = [tuning_section(tuned, config.compare.tune)] if config.compare.tune else []
    parts += sections(Findings(config, stores, held_out, comparison, next(iter(externals), None)))
    write_comparison(config, comparison, held_out, folder, parts)
    return comparison, folder


def _with_folds(config: Config, store: Store) -> tuple[Config, list[str]]:
    """Decide on folds where the configuration leaves them open."""
    if config.compare.folds is not None:
        return config, []
    searched = isinstance(config, StudyConfig)
    folds, remarks = usual_folds(store.cohort, config.data.splits, searched=searched)
    if isinstance(config, ExperimentConfig) and uses_artefact(config.model.architecture()) and folds > 1:
        folds, why = 1, "encoders were pre-trained on patients whom other folds would hold out"
        remarks = [f"1 fold in place of {USUAL}: {why}"]
    return config.model_copy(update={"compare": config.compare.model_copy(update={"folds": folds})}), remarks


def _externals(config: Config, stores: Sequence[Store]) -> list[Store]:
    """Return the patients of the external folder, as each fold's training patients taught to see them."""
    folder = config.compare.external
    return [] if folder is None else [external_store(each, folder) for each in stores]


def _run(
    config: Config,
    folder: Path,
    strategies: Sequence[Mapping[str, Contender]],
    training: TrainingConfig,
    count: int,
    workers: int,
    progress: bool,
) -> dict[str, list[list[str | JobFailure]]]:
    """Train the strategies of each fold with every seed; return files or failures by strategy, seed and fold."""
    shared = {"config": config.model_dump(mode="json"), "folder": str(folder / "predictions")}
    fresh = [_FRESH + seed for seed in range(count)]
    jobs: list[dict[str, Any]] = [
        {**shared, "name": name, "contender": plain, "seeds": seeds, "fold": fold}
        for fold, contenders_here in enumerate(strategies)
        for name, plain in ((name, each.plain(training)) for name, each in contenders_here.items())
        for seeds in _together(plain, fresh)
    ]
    done = run_jobs(run_job, jobs, workers, "comparing", progress)
    found: dict[str, list[list[str | JobFailure]]] = {name: [[] for _ in fresh] for name in strategies[0]}
    for job, one in zip(jobs, done, strict=True):
        for seed, each in zip(job["seeds"], _by_seed(one, len(job["seeds"])), strict=True):
            found[job["name"]][seed - _FRESH].append(each)
    return found


def run_job(settings: Mapping[str, Any]) -> list[str | JobFailure]:
    """Train one contender with some seeds, predict the held-out split and return the files with the predictions.

    Several seeds are trained together, so they must be those that `can_stack` allows.
    """
    config = parse_config(settings["config"])
    compare, fold = config.compare, settings.get("fold", 0)
    store = fold_store(open_store(config), compare.folds or 1, fold, config.data.splits, compare.folds_by)
    folder, contender = Path(settings["folder"]), settings["contender"]
    external = next(iter(_externals(config, [store])), None)
    paths = {
        seed: result_path(folder, contender, seed, config, store, external).with_suffix(".npz")
        for seed in settings["seeds"]
    }
    missing = [seed for seed, path in paths.items() if not path.is_file()]
    failures: dict[int, JobFailure] = {}
    if missing:
        for seed, found in zip(missing, _train(contender, store, missing, config, external), strict=True):
            if isinstance(found, NotFinite):
                failures[seed] = JobFailure(f"NotFinite: {found}")
                continue
            with whole_file(paths[seed], private=True) as temporary:
                np.savez(temporary, **found)
    return [failures.get(seed, str(path)) for seed, path in paths.items()]


def _train(
    contender: Mapping[str, Any], store: Store, seeds: Sequence[int], config: Config, external: Store | None
) -> Iterator[dict[str, Any] | NotFinite]:
    """Train a contender and yield what each seed came to."""
    training = TrainingConfig.model_validate(contender["training"])
    if contender["control"] is not None:
        for seed in seeds:
            control = CONTROLS[contender["control"]](store, selection_metric(store.task, training), seed, external)
            found = {"predictions": control.predictions, "tuning_predictions": control.tuning}
            found |= {"external": control.external} if control.external is not None else {}
            yield {**found, "trees": control.trees, "tuning": control.score, "seconds": control.seconds}
        return
    architecture = Architecture.from_dict(contender["architecture"])
    for fit in train_seeds(architecture, store, training, seeds, preprocess=config.data.preprocess):
        if isinstance(fit, NotFinite):
            yield fit
            continue
        numbers: dict[str, Any] = {"tuning": fit.score, "parameters": fit.parameters, "seconds": fit.seconds}
        if external is not None:
            rows = external.cohort.rows("held_out")
            numbers |= {"external": predict_rows(fit.model, fit.preparations, external, rows)}
        yield {**_predicted(fit, store), **numbers}


def _predicted(fit: Fit, store: Store) -> dict[str, Any]:
    """Return what a model predicts; of several modalities, from every set of them too."""
    rows = store.cohort.rows("held_out")
    tuning = predict_rows(fit.model, fit.preparations, store, store.cohort.rows("tuning"))
    if not 1 < len(fit.preparations) <= MOST:
        return {"predictions": predict_rows(fit.model, fit.preparations, store, rows), "tuning_predictions": tuning}
    sets = coalition_predictions(fit.model, fit.preparations, store, rows)
    of_sets = {"coalitions": sets, "modalities": np.array(list(fit.preparations))}
    of_sets["present"] = who_has(fit.preparations, store, rows)
    weights = mean_weights(fit.model, fit.preparations, store, rows)
    of_sets |= {"weights": weights} if weights is not None else {}
    return {"predictions": sets[-1], "tuning_predictions": tuning, **of_sets}


def _together(contender: Mapping[str, Any], seeds: Sequence[int]) -> list[list[int]]:
    """Group seeds into jobs: all in one where they can be trained together, one each otherwise."""
    if contender["control"] is None:
        architecture = Architecture.from_dict(contender["architecture"])
        training = TrainingConfig.model_validate(contender["training"])
        return groups(architecture, training, seeds)
    return [[seed] for seed in seeds]


def _by_seed(found: list[str | JobFailure] | JobFailure, seeds: int) -> Sequence[str | JobFailure]:
    """Return what a job gave, seed by seed; all seeds of a job fail together."""
    return [found] * seeds if isinstance(found, JobFailure) else found


def _work(works: Mapping[str, Work]) -> dict[str, dict[str, float]]:
    return {name: {"flops": each.flops, "epochs": each.epochs} for name, each in works.items()}
