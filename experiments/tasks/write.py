"""Labels of a task beside those of the folder, with the flow of its cohort as text, JSON and pictures."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.data.folder import Dataset, open_dataset, read_json
from experiments.sources.folder import write_json, write_table
from experiments.tasks.counts import shown
from experiments.tasks.definition import TaskDefinition
from experiments.tasks.disclosure import shown_flow, shown_parts, shown_positive
from experiments.tasks.evaluate import Result, evaluate
from experiments.tasks.interactions import interaction_rate, read_interactions, write_interactions
from experiments.tasks.patterns import kinds_at, patterns
from experiments.tasks.pictures import flow_png, flow_svg
from experiments.whole import one_at_a_time, whole_file, whole_folder
from fusion.component import UsageError

_KEYS = ["subject_id", "prediction_time"]
Column = Literal["boolean_value", "categorical_value"]


def label_folder(
    task: TaskDefinition,
    folder: Path,
    *,
    interactions: Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Compute a task's labels from a folder's events and write them as `labels/NAME`; return what may be shown.

    The flow of the cohort, the patterns and the task itself go to `tasks/NAME`; the flow is also added to
    `cohort.json`, from where reports take it.

    Raises:
        UsageError: the task is not defined on this folder, nobody is left, or a label of this name is there.
    """
    dataset = open_dataset(folder)
    _refuse_to_replace(task, dataset, overwrite)
    result = evaluate(task, dataset, progress=progress)
    truth = {name: result.rows[name] for name in result.labels or result.rows.columns[2:]}
    if "categorical_value" in truth:
        truth = {}
    table = patterns(kinds_at(dataset, result.rows), truth)
    about: dict[str, Any] = {"task": task.name, "flow": shown_flow(result.flow), "patterns": table}
    about |= {"classes": _classes(result), "left_out_labels": len(result.rare), "assumed": shown(result.assumed)}
    matrix = None
    if interactions is not None:
        matrix = read_interactions(interactions, list(result.labels))
        about["interactions"] = interaction_rate(result.rows.select(list(result.labels)).to_numpy(), matrix)
    with one_at_a_time(folder / "labels"), ExitStack() as stack:
        notes = stack.enter_context(whole_folder(dataset.folder / "tasks" / task.name, private=True))
        _write_notes(notes, result, about, matrix)
        _write_labels(stack, dataset.folder / "labels", result)
        _write_flow(stack, dataset, result)
    return about


def _refuse_to_replace(task: TaskDefinition, dataset: Dataset, overwrite: bool) -> None:
    if task.label.given is not None:
        path = dataset.label_path(task.label.given)
        raise UsageError(f"{path}: the label of {task.name} is written by the converter; name it in data.labels")
    paths = [dataset.folder / "labels" / name for name in (f"{task.name}.parquet", task.name)]
    if any(path.exists() for path in paths) and not overwrite:
        raise UsageError(f"{dataset.folder}: there is a label {task.name}; say --overwrite to compute it again")


def _classes(result: Result) -> dict[str, str]:
    """Count each class, or each label."""
    if "categorical_value" in result.rows.columns:
        counted = result.rows.group_by("categorical_value").len().sort("categorical_value")
        return dict(zip(counted["categorical_value"], shown_parts(counted["len"].to_list()), strict=True))
    rows = result.rows.height
    return {text: shown_positive(int(result.rows[name].sum()), rows) for name, text in result.labels.items()}


def _write_labels(stack: ExitStack, folder: Path, result: Result) -> None:
    """Write a file, or for several labels a folder of files; the other of the two goes."""
    single, several = folder / f"{result.task.name}.parquet", folder / result.task.name
    if not result.labels:
        column: Column = "boolean_value" if "boolean_value" in result.rows.columns else "categorical_value"
        write_table(result.rows.select(*_KEYS, column), stack.enter_context(whole_file(single, private=True)))
        shutil.rmtree(several, ignore_errors=True)
        return
    target = stack.enter_context(whole_folder(several, private=True))
    single.unlink(missing_ok=True)
    for name in result.labels:
        write_table(result.rows.select(*_KEYS, boolean_value=name), target / f"{name}.parquet")


def _write_flow(stack: ExitStack, dataset: Dataset, result: Result) -> None:
    path = dataset.folder / "cohort.json"
    known = read_json(path) if path.is_file() else {}
    known["labels"] = {**known.get("labels", {}), result.task.name: result.flow}
    write_json(stack.enter_context(whole_file(path, private=True)), known)


def _write_notes(folder: Path, result: Result, about: dict[str, Any], matrix: NDArray[np.bool_] | None) -> None:
    task = result.task
    plain = task.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    (folder / "task.json").write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_json(folder / "flow.json", about)
    (folder / "flow.png").write_bytes(flow_png(task.title, result.flow))
    (folder / "flow.svg").write_bytes(flow_svg(task.title, result.flow))
    if result.labels:
        with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("label", "name"), *result.labels.items()])
    if matrix is not None:
        write_interactions(folder / "interactions.csv", matrix, list(result.labels))
