"""DataFrames with a patient a row: what is read from cells, what is written, what is refused in which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image as Pillow

from encoders.records import CodeEvents, Note, Record
from experiments.cli import main
from experiments.data.check import check
from experiments.data.cohort import load_cohort
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.data_config import DataConfig
from experiments.sources.frames import columns_by_modality, frame_records, write_frame
from fusion import UsageError

ROWS = {
    "codes": [["ICD10CM//I50.23", ("LAB//crea", 2.0, 1.5)], "ICD10CM//I10", None],
    "notes": ["no cough", [("short of breath", 3.0), "better"], ""],
    "age": [71.0, None, 50.0],
}


def read(frame: Any) -> list[Record]:
    return frame_records(frame, columns_by_modality(list(frame.columns)))


def plain(record: Record) -> tuple[Any, ...]:
    events = zip(*(np.asarray(each).tolist() for each in record.codes), strict=True)
    return [(c, d, None if np.isnan(v) else v) for c, d, v in events], record.notes, len(record.images)


def test_cells_become_what_a_patient_has_oldest_first() -> None:
    first, second, third = (plain(each) for each in read(pd.DataFrame(ROWS)))
    assert first[0] == [("LAB//crea", 2.0, 1.5), ("ICD10CM//I50.23", 0.0, None), ("age", 0.0, 71.0)]
    assert first[1] == (Note("no cough", 0.0, "notes"),)
    assert second[0] == [("ICD10CM//I10", 0.0, None)]
    assert [note.text for note in second[1]] == ["short of breath", "better"]
    assert third == ([("age", 0.0, 50.0)], (), 0)


def test_polars_with_structs_is_read_as_pandas_with_tuples() -> None:
    events = [
        [{"code": "ICD10CM//I50.23", "days": None, "value": None}, {"code": "LAB//crea", "days": 2.0, "value": 1.5}],
        [{"code": "ICD10CM//I10", "days": 0.0, "value": None}],
        None,
    ]
    notes = [["no cough"], ["better"], []]
    frame = pl.DataFrame({"codes": events, "notes": notes, "age": ROWS["age"]})
    assert [plain(each)[0] for each in read(frame)] == [plain(each)[0] for each in read(pd.DataFrame(ROWS))]


def test_a_written_folder_says_what_the_frame_says(tmp_path: Path) -> None:
    Pillow.new("L", (8, 8)).save(tmp_path / "a.png")
    image = str(tmp_path / "a.png")
    many = pd.DataFrame({name: cells * 20 for name, cells in ROWS.items()} | {"images": [image, None, (image,)] * 20})
    whose = np.arange(60) // 2
    folder = write_frame(many, [0, 1] * 30, tmp_path / "data", groups=whose, edges=[("ICD10CM//I10", "is", "high")])
    assert not [each for each in check(folder).problems if "not described" in each.message]
    dataset = open_dataset(folder)
    cohort = load_cohort(dataset, DataConfig(folder=folder))
    back = dict(iterate_records(dataset, cohort.subject_ids, cohort.prediction_times))
    wanted = read(many)
    assert [plain(back.get(i, Record())) for i in range(60)] == [plain(each) for each in wanted]
    assert cohort.targets.tolist() == [0, 1] * 30
    assert (cohort.split[::2] == cohort.split[1::2]).all()
    assert ("ICD10CM//I50.23", "is_a", "ICD10CM//I50.2") in dataset.knowledge().edges
    assert ("ICD10CM//I10", "is", "high") in dataset.knowledge().edges


def test_nothing_at_all_is_a_record() -> None:
    (record,) = read(pd.DataFrame({"codes": [None], "age": [None]}))
    assert isinstance(record.codes, CodeEvents)
    assert not len(record.codes.codes)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        (
            "codes",
            3,
            r"row 1: column 'codes': expected a code, or a list of codes or of \(code, days before, value\); got",
        ),
        ("codes", [("I10", -1)], "nothing from after it may be known"),
        ("codes", ["NOTE//secret"], "codes may not be MEDS_BIRTH nor begin with NOTE//"),
        ("codes", [("I10", "secret")], "days and values must be numbers; got str"),
        ("notes", [("secret", 1.0, 2.0)], "expected a text, or a list of texts"),
        ("images", "secret.png", "no such image file"),
        ("age", "secret", "a measurement must be a number; got str"),
        ("age", float("inf"), "must be finite"),
    ],
)
def test_what_is_wrong_is_named_without_saying_what_stands_there(column: str, cell: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        read(pd.DataFrame({column: pd.Series([None, cell], dtype=object)}))
    assert "row 1" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"code": "icd"}, "did you mean 'codes'"),
        ({"codes": "ict"}, "did you mean 'icd'"),
        ({"codes": "icd", "notes": ["icd"]}, "'icd' is named twice"),
        ({}, "none is named"),
    ],
)
def test_columns_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        columns_by_modality(["icd", "text"], given)


def test_a_label_of_classes_has_no_mean_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_frame(pd.DataFrame({"age": range(30)}), ["a", "b", "c"] * 10, tmp_path / "data")
    assert main(["data", "check", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"yes +│ - +│ - +│ 30 +│ 100.0% │ in classes", shown)
    assert "file" not in shown  # no table of what is wrong where nothing is
