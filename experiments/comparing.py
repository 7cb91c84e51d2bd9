"""Run a comparison: every fusion and every single modality with the same encoders, budget and seeds."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.comparison import Comparison, compare_predictions
from experiments.config import Config, ExperimentConfig, TrainingConfig, parse_config
from experiments.contenders import BY, Contender, Subject, chosen, contenders
from experiments.controls import CONTROLS
from experiments.controls import plan as control_plan
from experiments.data.store import Store
from experiments.evaluate import predict_rows, squeeze_outputs
from experiments.feeding import preparations
from experiments.jobs import JobFailure, run_jobs
from experiments.plots import forest_png
from experiments.slots import default_workers
from experiments.stacked import groups, train_seeds
from experiments.train import NotFinite, selection_metric
from experiments.whole import whole_file
from experiments.work import Work, with_equal_work
from experiments.workspace import code_fingerprint, git_commit, open_store
from fusion import Architecture, UsageError

if TYPE_CHECKING:
    from experiments.tracking.runs import Connection

_FRESH = 2_000_003  # keeps the seeds of comparisons apart from those of trials


def compare_config(
    config: Config,
    *,
    by: str = "fusion",
    seeds: int | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[Comparison, Path]:
    """Compare strategies of fusion or of training on the held-out split, for an experiment or a study's best trial.

    Runs that were done before are not done again, so an interrupted comparison goes on where it was.

    Raises:
        UsageError: there is nothing to compare, or the study has no finished trial.
    """
    if by not in BY:
        raise UsageError(f"can compare by {' or '.join(BY)}; got '{by}'")
    subject = chosen(config)
    folder = config.runs / config.name / ("compare" if by == "fusion" else f"compare-{by}")
    store = open_store(config, progress=progress)
    strategies = contenders(subject, by=by, controls=config.compare.controls)
    plans = list(preparations(subject.architecture, config.data.preprocess).values())
    store.prepare([*plans, *([control_plan()] if any(each.control for each in strategies.values()) else [])], progress)
    works: dict[str, Work] = {}
    if config.compare.equal == "flops":
        strategies, works = with_equal_work(
            strategies, subject.architecture, subject.training, store, config.data.preprocess
        )
    count = seeds or config.compare.seeds
    shared = {"config": config.model_dump(mode="json"), "folder": str(folder / "predictions")}
    fresh = [_FRESH + seed for seed in range(count)]
    jobs = [
        {**shared, "contender": plain, "seeds": seeds}
        for plain in (_plain(each, subject.training) for each in strategies.values())
        for seeds in _together(plain, fresh)
    ]
    done = run_jobs(run_job, jobs, workers or default_workers(), "comparing", progress)
    found = [each for job, one in zip(jobs, done, strict=True) for each in _by_seed(one, len(job["seeds"]))]
    comparison = _compare(config, store, subject, strategies, found, count, works)
    _write(config, comparison, folder)
    return comparison, folder


def run_job(settings: Mapping[str, Any]) -> list[str | JobFailure]:
    """Train one contender with some seeds, predict the held-out split and return the files with the predictions.

    Several seeds are trained together, so they must be those that `can_stack` allows.
    """
    config = parse_config(settings["config"])
    store = open_store(config)
    paths = {seed: _path(settings, seed, config, store) for seed in settings["seeds"]}
    missing = [seed for seed, path in paths.items() if not path.is_file()]
    failures: dict[int, JobFailure] = {}
    if missing:
        for seed, found in zip(missing, _train(settings["contender"], store, missing, config), strict=True):
            if isinstance(found, NotFinite):
                failures[seed] = JobFailure(f"NotFinite: {found}")
                continue
            with whole_file(paths[seed]) as temporary:
                np.savez(temporary, **found)
    return [failures.get(seed, str(path)) for seed, path in paths.items()]


def _path(settings: Mapping[str, Any], seed: int, config: Config, store: Store) -> Path:
    """Return where the predictions of a contender and a seed belong; its name says what they depend on."""
    key = json.dumps([settings["contender"], seed, config.data.preprocess], sort_keys=True)
    parts = [code_fingerprint(), key, store.data_fingerprint, store.cohort.fingerprint, store.cohort.split_fingerprint]
    return Path(settings["folder"]) / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:20]}.npz"


def _train(
    contender: Mapping[str, Any], store: Store, seeds: Sequence[int], config: Config
) -> Iterator[dict[str, Any] | NotFinite]:
    """Train a contender and yield what each seed came to."""
    training = TrainingConfig.model_validate(contender["training"])
    if contender["control"] is not None:
        for seed in seeds:
            control = CONTROLS[contender["control"]](store, selection_metric(store.task, training), seed)
            found = {"predictions": control.predictions, "trees": control.trees}
            yield {**found, "tuning": control.score, "seconds": control.seconds}
        return
    architecture = Architecture.from_dict(contender["architecture"])
    for fit in train_seeds(architecture, store, training, seeds, preprocess=config.data.preprocess):
        if isinstance(fit, NotFinite):
            yield fit
            continue
        predictions = predict_rows(fit.model, fit.preparations, store, store.cohort.rows("held_out"))
        numbers = {"tuning": fit.score, "parameters": fit.parameters, "seconds": fit.seconds}
        yield {"predictions": predictions, **numbers}


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


def _plain(contender: Contender, training: TrainingConfig) -> dict[str, Any]:
    """Return a contender as plain data for a worker process, its own training settings on top of the shared ones."""
    architecture = contender.architecture.to_dict() if contender.architecture is not None else None
    settings = {**training.model_dump(), **contender.training}
    return {"architecture": architecture, "control": contender.control, "training": settings}


def _compare(
    config: Config,
    store: Store,
    subject: Subject,
    strategies: Mapping[str, Contender],
    found: Sequence[str | JobFailure],
    count: int,
    works: Mapping[str, Work],
) -> Comparison:
    predictions: dict[str, list[np.ndarray[Any, Any]]] = {}
    warnings = list(subject.remarks)
    for i, name in enumerate(strategies):
        mine = found[i * count : (i + 1) * count]
        failures = [each.reason for each in mine if isinstance(each, JobFailure)]
        if failures:
            warnings.append(f"{name}: {len(failures)} of {count} runs failed ({failures[0]})")
        files = [Path(each) for each in mine if isinstance(each, str)]
        if files:
            predictions[name] = [squeeze_outputs(store.task, _predictions(file)) for file in files]
    if not predictions:
        raise UsageError(f"every run of the comparison failed: {warnings[-1]}")
    rows = store.cohort.rows("held_out")
    return compare_predictions(
        store.task,
        store.cohort.targets[rows],
        store.cohort.subject_ids[rows],
        predictions,
        {name: each.kind for name, each in strategies.items()},
        metric=selection_metric(store.task, subject.training),
        resamples=config.compare.resamples,
        seed=config.seed,
        about=_about(config, store, subject, count, warnings) | ({"work": _work(works)} if works else {}),
    )


def _work(works: Mapping[str, Work]) -> dict[str, dict[str, float]]:
    return {name: {"flops": each.flops, "epochs": each.epochs} for name, each in works.items()}


def _predictions(path: Path) -> np.ndarray[Any, Any]:
    with np.load(path) as file:
        found: np.ndarray[Any, Any] = file["predictions"]
    return found


def _about(config: Config, store: Store, subject: Subject, count: int, warnings: list[str]) -> dict[str, Any]:
    training = subject.training
    rows = store.cohort.rows("held_out")
    target = store.cohort.targets[rows]
    events = {"events": int(target.sum())} if store.task.kind == "binary" else {}
    if events and min(events["events"], len(rows) - events["events"]) < 50:
        warnings.append(f"only {events['events']} events among {len(rows)} held-out rows: the intervals are wide")
    elif len(rows) < 100:
        warnings.append(f"only {len(rows)} held-out rows: the intervals are wide")
    return {
        "title": f"{config.name}: {len(rows)} held-out predictions, {count} seeds",
        "name": config.name,
        "rows": len(rows),
        "patients": len(np.unique(store.cohort.subject_ids[rows])),
        **events,
        "seeds": count,
        "resamples": config.compare.resamples,
        "budget": f"at most {training.epochs} epochs, patience {training.patience}, batches of {training.batch_size}",
        "architecture": subject.architecture.to_dict(),
        "data_fingerprint": store.data_fingerprint,
        "split_fingerprint": store.cohort.split_fingerprint,
        "git_commit": git_commit(),
        "warnings": warnings,
    }


def _write(config: Config, comparison: Comparison, folder: Path) -> None:
    """Write table, numbers, picture and page, and log them."""
    from experiments.report import comparison_html

    folder.mkdir(parents=True, exist_ok=True)
    picture = forest_png(comparison)
    contents = {
        "comparison.csv": comparison.to_csv().encode(),
        "differences.csv": comparison.differences_csv().encode(),
        "comparison.json": comparison.to_json().encode(),
        "comparison.png": picture,
        "comparison.html": comparison_html(comparison, picture).encode(),
    }
    for name, content in contents.items():
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(content)
    if config.tracking.enabled:
        _log(config, comparison, [folder / name for name in contents])


def _log(config: Config, comparison: Comparison, files: Sequence[Path]) -> None:
    """Log to MLflow; hours of training are not lost because the tracker is away."""
    from experiments.tracking.runs import connect, first_line, log_comparison

    rows = [
        {"strategy": row.strategy, "metric": row.metric, "value": row.value, "low": row.low, "high": row.high}
        for row in comparison.rows
    ]
    tags = {name: comparison.about[name] for name in ("data_fingerprint", "split_fingerprint", "git_commit")}
    try:
        connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
        log_comparison(
            connection, f"{config.name} comparison", rows, files, tags=tags, parent=_study_run(config, connection)
        )
    except Exception as error:  # whatever MLflow and the network raise
        logging.getLogger("ehrfusion").warning(
            "the comparison is in its folder, but not in MLflow: %s", first_line(error)
        )


def _study_run(config: Config, connection: Connection) -> str | None:
    """Return the MLflow run of the study that is compared."""
    if isinstance(config, ExperimentConfig):
        return None
    from experiments.studies import load_study
    from experiments.tracking.runs import study_run

    return study_run(connection, load_study(config).user_attrs["study_key"])
