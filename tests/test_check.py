"""`data check` finds what is planted, with its place, and nothing in clean folders."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from encoders.records import CodeEvents, Edge, Knowledge
from experiments.data.check import Check, Problem, check, render
from experiments.data.suspicions import parent_circle, telling_features


@pytest.fixture
def folder(small_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small folder that a test may spoil."""
    return Path(shutil.copytree(small_folder, tmp_path / "data"))


def change(path: Path, how: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Change a table; columns that keep their kind keep their arrow type, which MEDS is strict about."""
    before = pq.read_schema(path)
    table = how(pl.read_parquet(path)).to_arrow()
    for i, each in enumerate(table.schema):
        texts = {str(each.type), str(before.field(each.name).type) if each.name in before.names else ""}
        if texts <= {"string", "large_string", "string_view"}:
            table = table.set_column(i, before.field(each.name), table[i].cast(before.field(each.name).type))
    pq.write_table(table, path)


def only(found: Check, severity: str) -> Problem:
    [problem] = [each for each in found.problems if each.severity == severity]
    return problem


def test_clean_folder_has_no_errors_and_no_warnings(small_folder: Path) -> None:
    found = check(small_folder)
    assert found.ok
    assert {problem.severity for problem in found.problems} == {"info"}
    assert found.patients == 160
    late = next(problem for problem in found.problems if "after the prediction time" in problem.message)
    assert "160 of them notes; no encoder sees them" in late.message  # the trap of every synthetic patient
    console = Console(width=160, record=True)
    console.print(render(found))
    text = console.export_text()
    assert "160 patients" in text
    assert "no errors" in text


def test_patient_in_two_splits(folder: Path) -> None:
    path = folder / "metadata" / "subject_splits.parquet"
    change(path, lambda t: pl.concat([t, t.head(1).with_columns(split=pl.lit("held_out"))]))
    problem = only(check(folder), "error")
    assert (problem.file, problem.message) == (
        "metadata/subject_splits.parquet",
        "1 subjects are in more than one split",
    )


def test_empty_split(folder: Path) -> None:
    change(folder / "metadata" / "subject_splits.parquet", lambda t: t.filter(pl.col("split") != "tuning"))
    messages = [problem.message for problem in check(folder).problems if problem.severity == "error"]
    assert "split 'tuning' is empty" in messages
    assert any("labels are of subjects without a split" in message for message in messages)


def test_one_class_split(folder: Path) -> None:
    held = pl.read_parquet(folder / "metadata" / "subject_splits.parquet").filter(pl.col("split") == "held_out")
    ids = held["subject_id"].to_list()
    everybody = pl.when(pl.col("subject_id").is_in(ids)).then(True).otherwise(pl.col("boolean_value"))
    change(folder / "labels" / "outcome.parquet", lambda t: t.with_columns(boolean_value=everybody))
    assert only(check(folder), "error").message == "split 'held_out' has one class only"


def test_duplicate_label_has_its_row(folder: Path) -> None:
    change(folder / "labels" / "outcome.parquet", lambda t: pl.concat([t, t[5:6]]))
    assert only(check(folder), "error").message == (
        "row 160: repeats a subject and prediction time (1 rows do); a patient has one label at a time"
    )


def test_label_outside_its_kind(folder: Path) -> None:
    change(folder / "labels" / "outcome.parquet", lambda t: t.with_columns(boolean_value=pl.lit("maybe")))
    assert only(check(folder), "error").message == "column 'boolean_value' is of type String, outside its kind"


def test_damaged_image_is_named_with_its_row(folder: Path) -> None:
    image = min((folder / "images").rglob("*.png"))
    image.write_bytes(b"no picture")
    problem = only(check(folder), "error")
    assert problem.message == "unreadable image: of a kind that is not known"
    assert problem.column == "image_path"
    assert problem.row is not None
    shard = pl.read_parquet(folder / problem.file)
    assert shard["image_path"][problem.row].endswith(image.name)


def test_wrong_column_type(folder: Path) -> None:
    shard = min((folder / "data").rglob("*.parquet"))
    change(shard, lambda t: t.with_columns(numeric_value=pl.col("numeric_value").cast(pl.String)))
    assert any(p.severity == "error" and p.file == "data/00000.parquet" for p in check(folder).problems)


def test_unsorted_events(folder: Path) -> None:
    shard = min((folder / "data").rglob("*.parquet"))
    change(shard, lambda t: t.sort("subject_id", "time", descending=[False, True], maintain_order=True))
    problem = only(check(folder), "error")
    assert (problem.file, problem.column, problem.message) == (
        "data/00000.parquet",
        "time",
        "events are not sorted by time",
    )
    assert problem.row is not None


def test_code_that_only_positives_have_is_a_leak(folder: Path) -> None:
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet").filter(pl.col("boolean_value"))
    shard = min((folder / "data").rglob("*.parquet"))
    leak = labels.select("subject_id", time=pl.col("prediction_time") - pl.duration(hours=1))
    leak = leak.with_columns(code=pl.lit("LEAK//OUTCOME"))
    change(
        shard, lambda t: pl.concat([t, leak], how="diagonal_relaxed").sort("subject_id", "time", maintain_order=True)
    )
    found = check(folder)
    texts = [problem.message for problem in found.problems if problem.severity == "warning"]
    assert "may give the label away: LEAK//OUTCOME: having it or not tells the label with an AUROC of 1.000" in texts
    assert found.ok


def test_loose_edge_and_circle_of_parents(folder: Path) -> None:
    path = folder / "graph" / "edges.parquet"
    row = pl.DataFrame({"head": ["NOWHERE"], "relation": ["causes"], "tail": ["NOWHERE//ELSE"]})
    change(path, lambda t: pl.concat([t, row], how="vertical_relaxed"))
    text = "1 edges lead to codes that are described nowhere, e.g. NOWHERE"
    assert only(check(folder), "warning").message == text
    is_a = [Edge("a", "is_a", "b"), Edge("b", "is_a", "c"), Edge("c", "is_a", "b"), Edge("x", "is_a", "c")]
    assert parent_circle(Knowledge(tuple(is_a))) == ["b", "c", "b"]
    assert parent_circle(Knowledge((*is_a[:2], Edge("a", "is_a", "c")))) == []


def test_graph_without_a_column(folder: Path) -> None:
    change(folder / "graph" / "edges.parquet", lambda t: t.drop("tail"))
    problem = only(check(folder), "error")
    assert problem.file == "graph/edges.parquet"
    assert "missing column 'tail'" in problem.message


def patients(values: list[float], codes: list[list[str]]) -> list[CodeEvents]:
    made = []
    for value, mine in zip(values, codes, strict=True):
        numbers = np.array([value, *[np.nan] * len(mine)], np.float32)
        made.append(CodeEvents(("LAB", *mine), np.zeros(len(numbers), np.float32), numbers))
    return made


def test_value_that_orders_the_classes_is_a_leak_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.4
    plain = [["X"] if chance < 0.5 else [] for chance in rng.random(200)]
    telling = telling_features(patients((positive + 0.1 * rng.normal(size=200)).tolist(), plain), positive)
    assert telling == [("LAB", "its last value tells the label with an AUROC of 1.000", True, 1.0)]
    assert telling_features(patients(rng.normal(size=200).tolist(), plain), positive) == []


def test_code_of_some_positives_and_no_negative_is_a_leak() -> None:
    positive = np.arange(200) < 60
    codes = [["DEATH"] if i < 20 else [] for i in range(200)]
    found = telling_features(patients(np.zeros(200).tolist(), codes), positive)
    assert found == [("DEATH", "all 20 training patients who have it are positive", False, 20 / 60)]
