"""What each verb of the command line does: read arguments, call the library, print the result."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from experiments.config import Config, ExperimentConfig, StudyConfig, load_config
from experiments.terminal import console, say
from fusion.component import UsageError


def demo(arguments: Namespace) -> int:
    """Run the main job on synthetic data."""
    from experiments.demo import run_demo

    return run_demo(arguments.runs or Path("runs"), arguments.workers, arguments.fresh, arguments.overrides)


def train(arguments: Namespace) -> int:
    """Train one experiment."""
    from experiments.single import run_experiment

    config = load_config(arguments.config, _overrides(arguments))
    if not isinstance(config, ExperimentConfig):
        raise UsageError(f"'{config.name}' is a study; run it with: ehrfusion search {arguments.config}")
    fit = run_experiment(config)
    say(f"{config.name}: tuning {fit.metric} {fit.score:.4f} at epoch {fit.best_epoch} of {len(fit.history)}")
    say(f"{fit.parameters:,} parameters, {fit.seconds:.1f} s, {fit.peak_memory_mb:.0f} MB")
    return 0


def search(arguments: Namespace) -> int:
    """Run a study, or say how far it is."""
    from experiments.searching import run_search
    from experiments.status import study_status

    # of what was started is told as it was started, whatever the file says by now
    config = study_config(arguments, prefer_config=not arguments.status)
    if arguments.status:
        console().print(study_status(config))
        return 0
    if arguments.control:
        return _control(config, arguments)
    result = run_search(config, workers=arguments.workers, fresh=arguments.fresh)
    console().print(result.render())
    return 0 if result.complete else 1


def worker(arguments: Namespace) -> int:
    """Take part in a study."""
    from experiments.joining import run_worker
    from experiments.worker import POISONED
    from search.failures import Poisoned

    for name in ("storage", "checkpoints"):
        if getattr(arguments, name) is not None:
            arguments.overrides = [*arguments.overrides, f"search.{name}={getattr(arguments, name)}"]
    try:
        shift = run_worker(study_config(arguments, prefer_config=True))
    except Poisoned as why:
        print(f"this process can run no more trials ({why}); start another", file=sys.stderr)  # noqa: T201
        return POISONED
    say(shift.render())
    return 0


def _control(config: StudyConfig, arguments: Namespace) -> int:
    """Hold a study's way to search against another, at the same budget."""
    from experiments.race import CONTROLS, run_race

    if arguments.fresh:
        raise UsageError("--fresh forgets one study; a control has several: choose another name, or drop --fresh")
    methods = {"study": {}, arguments.control: CONTROLS[arguments.control]}
    race = run_race(config, methods, arguments.control, repeats=arguments.repeats, workers=arguments.workers)
    console().print(race.render())
    say(f"wrote {race.write(config.folder / 'control')}, .png, .csv and .json")
    return 0


def audit(arguments: Namespace) -> int:
    """Look for leaks."""
    from experiments.audit.gate import written_audit

    found, path = written_audit(config_or_study(arguments))
    console().print(found.render())
    say(f"wrote {path}")
    return 0 if found.ok else 1


def compare(arguments: Namespace) -> int:
    """Compare fusion strategies."""
    from experiments.comparing import compare_config

    config = config_or_study(arguments)
    comparison, folder = compare_config(
        config,
        by=arguments.by,
        seeds=arguments.seeds,
        workers=arguments.workers,
        announce=say,
        audit=not arguments.no_audit,
    )
    console().print(comparison.render())
    say(f"wrote {folder}/comparison.html, .png, .csv, .json, differences.csv and predictions.npz")
    return 0


def benchmark(arguments: Namespace) -> int:
    """Compare every strategy on every recipe."""
    from experiments.benchmark import run_benchmark

    found = run_benchmark(
        arguments.runs or Path("runs"),
        by=arguments.by,
        recipes=arguments.recipes,
        fusions=arguments.strategies,
        patients=arguments.patients,
        seeds=arguments.seeds,
        workers=arguments.workers,
    )
    console().print(found.render())
    say(f"wrote {found.folder}/table.md, table.csv and table.png")
    return 0


def report(arguments: Namespace) -> int:
    """Write the report of a study."""
    from experiments.searching import write_study_report

    say(f"wrote {write_study_report(study_config(arguments))}")
    return 0


def register(arguments: Namespace) -> int:
    """Retrain, evaluate once, register."""
    from experiments.register import register_study

    registration = register_study(
        study_config(arguments),
        arguments.name,
        top=arguments.top,
        pick=arguments.pick,
        seeds=arguments.seeds,
        promote=arguments.promote,
        workers=arguments.workers,
        audit=not arguments.no_audit,
    )
    console().print(registration.render())
    return 0


def predict(arguments: Namespace) -> int:
    """Predict a folder with a registered model or a bundle."""
    from experiments.predict import predict_folder

    done = predict_folder(
        arguments.model,
        arguments.folder,
        arguments.out,
        labels=arguments.labels,
        runs=arguments.runs or Path("runs"),
        progress=True,
    )
    for warning in done.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - beside the result, not in it
    say(f"wrote {done.rows:,} predictions to {arguments.out}")
    return 0


def explain(arguments: Namespace) -> int:
    """Say which codes, words, edges of the graph and image regions a model's predictions for a folder rest on."""
    from experiments.explaining.folder import explain_folder

    done = explain_folder(
        arguments.model,
        arguments.folder,
        arguments.out,
        labels=arguments.labels,
        split=arguments.split,
        weights=arguments.weights,
        runs=arguments.runs or Path("runs"),
        progress=True,
    )
    say(done.who)
    say(f"wrote {done.page}" + (f" and {arguments.weights}" if arguments.weights else ""))
    return 0


def components(arguments: Namespace) -> int:
    """List the catalogue or show one component."""
    from experiments.catalogue import catalogue_markdown, render_catalogue

    if arguments.markdown:
        print(catalogue_markdown(), end="")  # noqa: T201 - a document for stdout
        return 0
    console().print(render_catalogue(arguments.name))
    return 0


def track_sync(arguments: Namespace) -> int:
    """Project a study into MLflow again."""
    from experiments.searching import sync_study

    say(sync_study(study_config(arguments)))
    return 0


def doctor(arguments: Namespace) -> int:
    """Diagnose the installation."""
    from experiments.doctor import diagnose, render

    checks = diagnose(arguments.runs or Path("runs"), storage=arguments.storage)
    console().print(render(checks))
    return 1 if any(check.status == "fail" for check in checks) else 0


def study_config(arguments: Namespace, *, prefer_config: bool = False) -> StudyConfig:
    """Return the study a command names."""
    config = config_or_study(arguments, prefer_config=prefer_config)
    if not isinstance(config, StudyConfig):
        raise UsageError(f"'{config.name}' is one experiment; a study has 'space' and 'search'")
    return config


def config_or_study(arguments: Namespace, *, prefer_config: bool = False) -> Config:
    """Return the configuration a command names.

    A study that was searched is found by its name in the runs folder, with the settings it was searched with,
    unless `prefer_config` or overrides ask for the file.
    """
    runs = arguments.runs or Path("runs")
    overrides = _overrides(arguments)
    saved = runs / Path(arguments.study).stem / "study.yaml"
    if saved.is_file() and not prefer_config:
        return load_config(saved, overrides)
    return load_config(arguments.study, overrides)


def _overrides(arguments: Namespace) -> list[str]:
    runs = [f"runs={arguments.runs}"] if arguments.runs is not None else []
    engine = [f"search.engine={arguments.engine}"] if getattr(arguments, "engine", None) else []
    return [*runs, *engine, *getattr(arguments, "overrides", [])]
