"""What must hold for every task: time has no zero, the future tells nothing, nobody's label hangs on another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from toy_tasks import Event, events_folder, hospital, result_of, unit

from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.tasks.evaluate import evaluate
from experiments.tasks.load import load_task, task_names
from experiments.tasks.moments import duration, interval, moment, order

KIDNEY, HEART, DRUG, PRESSOR = "ICD9CM//584.9", "ICD9CM//428.0", "DRUG//NAME//furosemide", "INFUSION//norepinephrine"


def person(end: float, out: float, *more: Event) -> list[Event]:
    first = [
        *hospital(-1, out, (out, KIDNEY), (2, DRUG), (3, "INFUSION//propofol"), (1, "PROCEDURE//x")),
        *unit(0, end),
    ]
    return [*first, *hospital(out + 500, out + 600, (out + 600, HEART), (out + 550, DRUG)), *more]


PEOPLE = {
    1: person(30, 200),
    2: person(60, 70, (70, "MEDS_DEATH")),
    3: person(200, 210, (50, PRESSOR), (20, "PROCEDURE//225792")),
    4: person(60, 100, (-24 * 40, HEART), (None, "GENDER//F")),
    5: person(400, 500, (49, "PROCEDURE//225794")),
}
# one of each kind of index, prediction and label; the others differ from them in hours and events
TASKS = [
    "decompensation",
    "length_of_stay_classes",
    "next_visit_diagnoses",
    "phenotypes",
    "readmission_30d",
    "shock_12h",
]
ALL = [name for name in task_names() if load_task(name).label.given is None]


def task_of(name: str) -> Any:
    """The task, with labels that few have."""
    task = load_task(name)
    return task.model_copy(update={"label": task.label.model_copy(update={"least": 1})})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return events_folder(tmp_path_factory.mktemp("people") / "data", PEOPLE)


@pytest.mark.parametrize("name", TASKS)
def test_shifting_all_times_shifts_the_predictions_and_nothing_else(name: str, folder: Path, tmp_path: Path) -> None:
    shifted = events_folder(tmp_path / "data", PEOPLE, shift_days=-700)
    before, after = (evaluate(task_of(name), open_dataset(each)) for each in (folder, shifted))
    back = after.rows.with_columns(pl.col("prediction_time") + pl.duration(days=700))
    assert_frame_equal(before.rows, back)
    assert before.flow == after.flow


@pytest.mark.parametrize("name", TASKS)
def test_another_patient_changes_nobodys_label_and_shards_do_not_matter(
    name: str, folder: Path, tmp_path: Path
) -> None:
    whole = evaluate(task_of(name), open_dataset(folder))
    more = events_folder(tmp_path / "more", {**PEOPLE, 6: PEOPLE[3]}, each_a_shard=True)
    found = evaluate(task_of(name), open_dataset(more)).rows.filter(pl.col("subject_id") != 6)
    assert_frame_equal(whole.rows, found.select(whole.rows.columns))


@pytest.mark.parametrize("name", TASKS)
def test_what_happens_after_the_prediction_is_no_input(name: str, folder: Path, tmp_path: Path) -> None:
    rows = evaluate(task_of(name), open_dataset(folder)).rows.unique("subject_id", keep="first", maintain_order=True)
    later = {
        who: [*events, *((hour + 1 / 60, "LAB//lactate", 9.0) for hour in _hours(rows, who)), (99_999.0, "DX//late")]
        for who, events in PEOPLE.items()
    }
    other = events_folder(tmp_path / "data", later)
    seen = [
        {row: (tuple(record.codes.codes), tuple(record.codes.days)) for row, record in _records(each, rows)}
        for each in (folder, other)
    ]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("name", ALL)
def test_no_event_that_defines_the_label_lies_between_the_index_and_the_prediction(name: str, folder: Path) -> None:
    """Of this stay: what an earlier one says is history."""
    rows = evaluate(task_of(name), open_dataset(folder)).rows
    codes = ["MEDS_DEATH"]
    if name.startswith(("shock", "acute", "phenotypes")):
        codes = {"s": [PRESSOR], "a": ["PROCEDURE//22"], "p": [KIDNEY]}[name[0]]
    for _, record in _records(folder, rows):
        now = [code for code, days in zip(record.codes.codes, record.codes.days, strict=True) if days < 20]
        assert not [code for code in now if str(code).startswith(tuple(codes))]


def _hours(rows: pl.DataFrame, who: int) -> list[float]:
    from toy_tasks import START

    mine = rows.filter(pl.col("subject_id") == who)["prediction_time"]
    return [(time - START).total_seconds() / 3600 for time in mine]


def _records(folder: Path, rows: pl.DataFrame) -> Any:
    subjects = rows["subject_id"].to_numpy().astype(np.int64)
    return iterate_records(open_dataset(folder), subjects, rows["prediction_time"].to_numpy().astype("datetime64[us]"))


def test_a_patient_may_count_once(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("like: readmission_30d\nname: mine\ntitle: t\ncounts: first\n", encoding="utf-8")
    found = result_of(tmp_path / "data", PEOPLE, mine)
    assert found.rows["subject_id"].is_unique().all()
    assert found.flow[-2]["step"] != found.flow[-1]["step"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["min", "h", "d"]), st.sampled_from("+-"))
def test_moments_say_what_they_read(number: int, unit_name: str, sign: str) -> None:
    found = moment(f"last discharge {sign} {number}{unit_name}")
    assert (found.anchor, found.event) == ("last", "discharge")
    assert found.shift == duration(f"{number} {unit_name}") * (1 if sign == "+" else -1)


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (moment, "tomorrow", "a moment is start, end, predict"),
        (moment, "ever + 1d", "a moment is start"),
        (duration, "3 weeks", "with min, h or d, like 24h; got '3 weeks'"),
        (interval, "predict to end", "two moments in brackets"),
        (order, "predict", "with < or <= between"),
    ],
)
def test_what_is_no_moment_is_said_so(read: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text)
