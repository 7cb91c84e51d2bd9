"""Data folders of a few patients whose events are written by hand, in hours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from experiments.data.folder import open_dataset
from experiments.sources.folder import new_folder, write_codes, write_dataset, write_events
from experiments.tasks.evaluate import Result, evaluate
from experiments.tasks.load import load_task

START = datetime(2150, 1, 1)
Event = tuple[float | None, str] | tuple[float | None, str, float]
People = Mapping[int, Sequence[Event]]


def at(hours: float) -> datetime:
    """The moment some hours after the beginning."""
    return START + timedelta(hours=hours)


def unit(start: float, end: float, *more: Event) -> list[Event]:
    """A unit stay and other events."""
    return [(start, "UNIT_ADMISSION//MICU"), (end, "UNIT_DISCHARGE//MICU"), *more]


def hospital(start: float, end: float, *more: Event, went: str = "home") -> list[Event]:
    """A hospital stay and other events."""
    return [(start, "HOSPITAL_ADMISSION//urgent"), (end, f"HOSPITAL_DISCHARGE//{went}"), *more]


def events_folder(folder: Path, people: People, *, shift_days: int = 0, each_a_shard: bool = False) -> Path:
    """Write a data folder of people by number, everybody in one shard or in one each."""
    shift = timedelta(days=shift_days)
    with new_folder(folder) as new:
        rows: list[dict[str, Any]] = []
        for subject, events in people.items():
            for hours, code, *value in events:
                time = None if hours is None else at(hours) + shift
                rows.append({"subject_id": subject, "time": time, "code": code, "numeric_value": (value or [None])[0]})
        table = pl.DataFrame(rows, schema_overrides={"time": pl.Datetime("us"), "numeric_value": pl.Float32})
        for shard, subject in enumerate(people if each_a_shard else [0]):
            write_events(new, shard, table.filter(pl.col("subject_id") == subject) if each_a_shard else table)
        write_codes(new, table["code"].unique().to_list(), {}, {})
        write_dataset(new, dataset_name="toy")
    return folder


def task_file(folder: Path, text: str) -> Path:
    """Write a person's own task."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def result_of(folder: Path, people: People, task: str | Path, **options: Any) -> Result:
    """Evaluate a task on people."""
    return evaluate(load_task(task), open_dataset(events_folder(folder, people, **options)))


def truth(result: Result) -> dict[Any, Any]:
    """The label of each row by patient, or by patient and hour where a patient has several rows."""
    rows = result.rows
    value = rows.columns[2]
    if rows["subject_id"].is_unique().all():
        return dict(rows.select("subject_id", value).iter_rows())
    hours = (rows["prediction_time"] - START).dt.total_minutes() / 60
    return {(who, hour): label for who, hour, label in zip(rows["subject_id"], hours, rows[value], strict=True)}


def left_out(result: Result) -> dict[str, int]:
    """How many rows each step that leaves any out leaves out, by the beginning of its text."""
    return {step["step"]: step["left_out"] for step in result.flow if step.get("left_out")}
