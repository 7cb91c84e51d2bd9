"""Records: everything that was known at a prediction time, nothing that came later, whatever the shards."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from encoders.records import Record
from experiments.data.folder import Dataset, open_dataset
from experiments.data.reader import iterate_records
from experiments.sources.folder import write_dataset, write_events
from fusion import UsageError

NOON = datetime(2020, 6, 1, 12)
HOUR = timedelta(hours=1)
SCHEMA = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "image_path": pl.String,
    "view": pl.String,
}
Event = dict[str, Any]


def event(subject: int, time: datetime | None, code: str, **more: Any) -> Event:
    return {"subject_id": subject, "time": time, "code": code, **more}


def dataset(folder: Path, *shards: list[Event]) -> Dataset:
    """Write a folder with these event files."""
    for name in ("data", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, events in enumerate(shards):
        write_events(folder, number, pl.DataFrame(events, schema=SCHEMA), extra=("image_path", "view"))
    write_dataset(folder, additional_value_modality_columns=["image_path"])
    return open_dataset(folder)


def records(found: Dataset, *asked: tuple[int, datetime], **options: Any) -> list[Record]:
    """Return the records of patients at times, in the order asked for."""
    subjects = np.array([subject for subject, _ in asked], np.int64)
    times = np.array([time for _, time in asked], "datetime64[us]")
    by_row = dict(iterate_records(found, subjects, times, **options))
    assert sorted(by_row) == list(range(len(asked)))
    return [by_row[row] for row in range(len(asked))]


EVENTS = [
    event(1, None, "SEX//F"),
    event(1, NOON - 50 * HOUR, "OLD"),
    event(1, NOON - HOUR, "LAB", numeric_value=1.5),
    event(1, NOON, "AT"),
    event(1, NOON + timedelta(microseconds=1), "AFTER"),
    event(1, NOON - 2 * HOUR, "NOTE//admission", text_value="came in"),
    event(1, NOON + 2 * HOUR, "NOTE//discharge", text_value="went home"),
    event(1, NOON - 3 * HOUR, "IMAGE//xray", image_path="images/1.png", view="PA"),
    event(1, NOON + 3 * HOUR, "IMAGE//xray", image_path="images/2.png", view="AP"),
]


def test_events_at_the_prediction_time_are_known_and_later_ones_are_not(tmp_path: Path) -> None:
    (record,) = records(dataset(tmp_path, EVENTS), (1, NOON))
    assert list(record.codes.codes) == ["SEX//F", "OLD", "LAB", "AT"]
    np.testing.assert_allclose(record.codes.days, [0, 50 / 24, 1 / 24, 0], rtol=1e-6)
    np.testing.assert_array_equal(record.codes.values, [np.nan, np.nan, 1.5, np.nan])
    assert [(note.text, note.kind) for note in record.notes] == [("came in", "admission")]
    assert record.notes[0].days == pytest.approx(2 / 24)
    assert [(image.path.name, image.view) for image in record.images] == [("1.png", "PA")]


def test_the_same_patient_at_a_later_time_is_known_better(tmp_path: Path) -> None:
    early, late = records(dataset(tmp_path, EVENTS), (1, NOON - 10 * HOUR), (1, NOON + 10 * HOUR))
    assert list(early.codes.codes) == ["SEX//F", "OLD"]
    assert not early.notes
    assert not early.images
    assert "AFTER" in list(late.codes.codes)
    assert [note.kind for note in late.notes] == ["admission", "discharge"]
    assert len(late.images) == 2


def test_the_window_keeps_static_facts(tmp_path: Path) -> None:
    (record,) = records(dataset(tmp_path, EVENTS), (1, NOON), window_days=2)
    assert list(record.codes.codes) == ["SEX//F", "LAB", "AT"]


def test_age_is_known_from_birth_and_birth_is_no_code(tmp_path: Path) -> None:
    born = event(1, NOON - timedelta(days=365.25 * 40), "MEDS_BIRTH")
    (record,) = records(dataset(tmp_path, [born, event(1, NOON, "A")]), (1, NOON), window_days=1)
    assert list(record.codes.codes) == ["AGE", "A"]
    assert record.codes.values[0] == pytest.approx(40)


def test_only_the_modalities_asked_for_are_read(tmp_path: Path) -> None:
    found = dataset(tmp_path, EVENTS)
    for modality, lengths in {"codes": (4, 0, 0), "graph": (4, 0, 0), "notes": (0, 1, 0), "images": (0, 0, 1)}.items():
        (record,) = records(found, (1, NOON), modalities=(modality,))
        assert (len(record.codes.codes), len(record.notes), len(record.images)) == lengths


def test_patients_without_events_come_as_empty_records(tmp_path: Path) -> None:
    found = dataset(tmp_path, [event(1, NOON, "A")], [event(3, NOON + HOUR, "B")])
    known, nowhere, too_early = records(found, (1, NOON), (2, NOON), (3, NOON))
    assert len(known.codes.codes) == 1
    for record in (nowhere, too_early):
        assert not len(record.codes.codes)
        assert not record.notes
        assert not record.images


def test_rows_find_their_patients_whatever_the_order_and_the_shards(tmp_path: Path) -> None:
    events = [event(subject, NOON - HOUR * lag, f"C{subject}") for subject in range(1, 9) for lag in range(subject)]
    one = dataset(tmp_path / "one", events)
    many = dataset(tmp_path / "many", *[[each for each in events if each["subject_id"] % 3 == k] for k in range(3)])
    asked = [(subject, NOON - HOUR * lag) for subject in (7, 2, 8, 5) for lag in (3, 0)]
    expected = [[f"C{subject}"] * max(0, subject - lag) for subject in (7, 2, 8, 5) for lag in (3, 0)]
    for found in (one, many):
        assert [list(each.codes.codes) for each in records(found, *asked)] == expected


def test_a_subject_in_two_files_is_refused(tmp_path: Path) -> None:
    found = dataset(tmp_path, [event(1, NOON, "A"), event(2, NOON, "A")], [event(2, NOON, "B")])
    assert len(records(found, (1, NOON))) == 1
    with pytest.raises(UsageError, match=r"00001\.parquet: 1 subjects have events in an earlier file too"):
        records(found, (1, NOON), (2, NOON))


@pytest.mark.parametrize("column", ["subject_id", "time", "code"])
def test_a_missing_column_is_named_with_what_is_there(tmp_path: Path, column: str) -> None:
    found = dataset(tmp_path, EVENTS)
    pl.read_parquet(found.shards[0]).drop(column).write_parquet(found.shards[0])
    with pytest.raises(UsageError, match=rf"00000\.parquet: missing column '{column}'; got .*numeric_value"):
        records(found, (1, NOON))


@pytest.mark.parametrize(
    ("column", "kind", "wanted"),
    [("time", pl.Int64, "a timestamp"), ("numeric_value", pl.String, "float32"), ("subject_id", pl.Float64, "int64")],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, kind: Any, wanted: str) -> None:
    found = dataset(tmp_path, EVENTS)
    pl.read_parquet(found.shards[0]).with_columns(pl.col(column).cast(kind)).write_parquet(found.shards[0])
    with pytest.raises(UsageError, match=f"column '{column}' must be {wanted}; got "):
        records(found, (1, NOON))


@pytest.mark.parametrize("column", ["numeric_value", "text_value", "view", "unit"])
def test_optional_columns_may_be_absent_or_null(tmp_path: Path, column: str) -> None:
    found = dataset(tmp_path, EVENTS)
    whole = pl.read_parquet(found.shards[0])
    for table in (whole.drop(column), whole.with_columns(pl.lit(None).alias(column))):
        table.write_parquet(found.shards[0])
        (record,) = records(found, (1, NOON))
        assert len(record.codes.codes) == 4
        assert len(record.notes) == (column != "text_value")
