"""A scaling study as a command: its cells trained or taken from before, files written, and what there is to say."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from experiments.config import Config
from experiments.feeding import check_architecture, preparations
from experiments.loop import NotFinite
from experiments.progress import progress_bar
from experiments.scaling.answer import in_words
from experiments.scaling.cell import Bench, Cell, Cost, Done, cost, read_cell, train_cell
from experiments.scaling.findings import Findings, Point, conclude
from experiments.scaling.grid import plan_cells
from experiments.scaling.pictures import scaling_png
from experiments.scaling_config import ScalingConfig
from experiments.statistics.scaling import interval, interval_of
from experiments.tracking.runs import Connection, connect
from experiments.tracking.single import log_single
from experiments.whole import whole_file
from experiments.workspace import git_commit, open_store
from fusion import UsageError


def run_scaling(config: Config, *, fresh: bool = False, progress: bool = True) -> Iterator[str]:
    """Train the cells that were not trained yet, write table, figures and picture, and yield what there is to say.

    Only patients of the train split take part.

    Raises:
        UsageError: there is no section `scaling`, or its cells cannot be trained or tell nothing.
    """
    settings = check_scaling(config)
    connection = None
    if config.tracking.enabled:
        connection = connect(config.tracking.uri, config.runs, config.tracking.experiment or "ehrfusion")
    store = open_store(config, progress=progress)
    plans = preparations(settings.architecture(0), config.data.preprocess)
    store.prepare(list(plans.values()))
    bench = Bench(config, settings, store, plans)
    costs = [cost(bench, size) for size in range(len(settings.sizes))]
    cells = plan_cells(bench, costs)
    if fresh:
        shutil.rmtree(bench.folder, ignore_errors=True)
    anew = any(read_cell(bench, cell) is None for cell in cells)
    done = train_cells(bench, cells, costs, connection, progress)
    whole = float(bench.data(bench.rows()[0]) * settings.epochs)
    found = conclude(done, whole, config.seed, settings.least_steps)
    unit = "labels" if settings.objective == "task" else "tokens"
    lines = list(in_words(found, unit, settings.least_steps))
    write_results(bench.folder, found, lines, unit)
    if connection is not None and anew:
        _log_results(connection, bench, found)
    yield from lines
    yield f"{bench.folder}: scaling.csv, scaling.json, scaling.png"


def check_scaling(config: Config) -> ScalingConfig:
    """Return the section `scaling` of a configuration.

    Raises:
        UsageError: there is none, a size has a hyperparameter that its encoder has not, the encoder is pre-trained, or
            sizes read records that are prepared differently.
    """
    settings = config.scaling
    if settings is None:
        raise UsageError(f"'{config.name}' has no section 'scaling'; write scaling: {{sizes: [...], shares: [...]}}")
    if settings.encoder == "artefact":
        raise UsageError(
            "scaling.encoder: an artefact has the size it was pre-trained with; scaling trains every size from scratch"
        )
    for size in range(len(settings.sizes)):
        check_architecture(settings.architecture(size))
    plans = [preparations(settings.architecture(size), config.data.preprocess) for size in range(len(settings.sizes))]
    for each, plan in zip(settings.sizes, plans, strict=True):
        if plan[settings.modality].key != plans[0][settings.modality].key:
            raise UsageError(
                f"scaling.sizes: {each} reads records that are prepared otherwise than for {settings.sizes[0]}, "
                "by another tokenizer or vocabulary; sizes are of one encoder on the same data"
            )
    return settings


def train_cells(
    bench: Bench, cells: Sequence[Cell], costs: Sequence[Cost], connection: Connection | None, progress: bool
) -> list[Done]:
    """Return what every cell came to; those that were trained before are read, each new one is one MLflow run.

    Raises:
        UsageError: a cell's loss is not finite.
    """
    done = []
    with progress_bar(f"scaling {bench.config.name}", len(cells), enabled=progress) as advance:
        for cell in cells:
            found = read_cell(bench, cell)
            if found is None:
                try:
                    found, history = train_cell(bench, cell, costs[cell.size])
                except NotFinite as error:
                    size = bench.settings.sizes[cell.size]
                    raise UsageError(f"scaling '{bench.config.name}', size {size}: {error}; try a smaller lr") from None
                if connection is not None:
                    _log(connection, bench, found, history)
            done.append(found)
            advance()
    return done


def _log(connection: Connection, bench: Bench, done: Done, history: list[dict[str, float]]) -> None:
    cell = asdict(done.cell)
    params = {**cell, "size": bench.settings.sizes[done.cell.size]}
    finals = {name: value for name, value in asdict(done).items() if name != "cell"}
    log_single(connection, f"{bench.config.name}/scaling/{bench.key(done.cell)}", params, history, finals, _tags(bench))


def _log_results(connection: Connection, bench: Bench, found: Findings) -> None:
    finals = {"cells": float(len(found.points)), "data": found.whole}
    if found.surface is not None:
        finals |= {
            name: float(value) for name, value in asdict(found.surface).items() if isinstance(value, int | float)
        }
    files = {bench.folder / f"scaling.{ending}": None for ending in ("csv", "json", "png")}
    name, params = f"{bench.config.name}/scaling", bench.settings.model_dump(mode="json")
    log_single(connection, name, params, [], finals, _tags(bench), files)


def _tags(bench: Bench) -> dict[str, str]:
    return {
        "ehrfusion.kind": "scaling",
        "data_fingerprint": bench.store.data_fingerprint,
        "split_fingerprint": bench.store.cohort.split_fingerprint,
        "git_commit": git_commit(),
    }


def write_results(folder: Path, found: Findings, lines: Sequence[str], unit: str) -> None:
    """Write `scaling.csv`, a row a cell, `scaling.json`, what was concluded, and `scaling.png`."""
    table = io.StringIO()
    writer = csv.DictWriter(table, [each.name for each in fields(Point)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**asdict(each), "budget": each.budget or "none"} for each in found.points)
    text = json.dumps(as_data(found, lines, unit), indent=1, allow_nan=False) + "\n"
    whole = {"csv": table.getvalue().encode(), "json": text.encode(), "png": scaling_png(found, unit)}
    for ending, content in whole.items():
        with whole_file(folder / f"scaling.{ending}") as path:
            path.write_bytes(content)


def as_data(found: Findings, lines: Sequence[str], unit: str) -> dict[str, Any]:
    """Return all that was concluded as JSON data; what is not defined is left out or has its reason."""
    surface: Any = found.no_surface
    if found.surface is not None:
        names = ("irreducible", "alpha", "beta")
        bounds = {n: interval_of(found.draws, lambda each, n=n: getattr(each, n)) for n in names}  # type: ignore[misc]
        surface = {**asdict(found.surface), "intervals": {n: each for n, each in bounds.items() if each is not None}}
    budgets = [
        {"flops": each.flops, "refused": each.sizes.refusal}
        if each.sizes.place is None
        else {"flops": each.flops, "parameters": each.sizes.place, "interval": interval(each.sizes.draws)}
        for each in found.budgets
    ]
    cells = [asdict(each) for each in found.points]
    return {
        "unit": unit,
        "all": found.whole,
        "words": list(lines),
        "surface": surface,
        "budgets": budgets,
        "cells": cells,
    }
