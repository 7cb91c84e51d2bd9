"""PyHealth's samples and Hugging Face's datasets, both made by hand: there, back, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import polars as pl
import pytest

from experiments.sources.frames import from_huggingface, from_pyhealth, to_huggingface, to_pyhealth
from fusion import UsageError

PYHEALTH = [
    {"patient_id": "a", "visit_id": "1", "conditions": [["I10"], ["I50", "E11"]], "drugs": ["C07"], "label": 1},
    {"patient_id": "a", "visit_id": "2", "conditions": [], "drugs": ["C09"], "age": 70, "label": 0},
]


def codes(frame: pl.DataFrame, row: int) -> list[tuple[str, float]]:
    return [(each["code"], each["days"]) for each in frame["codes"].to_list()[row]]


def test_pyhealth_visits_are_a_day_apart_and_systems_are_told_apart() -> None:
    frame, y, patients = from_pyhealth(
        PYHEALTH, codes={"conditions": "ICD10CM//", "drugs": "ATC//"}, measurements=["age"]
    )
    assert codes(frame, 0) == [("ICD10CM//I10", 1), ("ICD10CM//I50", 0), ("ICD10CM//E11", 0), ("ATC//C07", 0)]
    assert codes(frame, 1) == [("ATC//C09", 0)]
    assert frame["age"].to_list() == [None, 70.0]
    assert (y.tolist(), patients.tolist()) == ([1, 0], ["a", "a"])


def test_there_and_back_through_pyhealth() -> None:
    frame, y, patients = from_pyhealth(PYHEALTH, codes=["conditions", "drugs"], measurements=["age"])
    samples = to_pyhealth(frame, y, patients=patients)
    assert samples[0]["codes"] == [["conditions//I10"], ["conditions//I50", "conditions//E11", "drugs//C07"]]
    assert samples[1] == {
        "patient_id": "a", "visit_id": "1", "codes": [["drugs//C09"]], "notes": [], "images": [], "age": 70.0,
        "label": 0,
    }  # fmt: skip
    again = from_pyhealth(samples, codes={"codes": ""}, notes=["notes"], measurements=["age"])
    assert again.X.select("codes", "age").equals(frame.select("codes", "age"))


class Dataset(list[dict[str, Any]]):
    """What of Hugging Face's Dataset is used: rows that are gone through, and features."""

    features: ClassVar[dict[str, Any]] = {"label": SimpleNamespace(names=["well", "ill"]), "codes": None}


def test_huggingface_there_and_back() -> None:
    nested = {
        "code": ["I50", "LAB"],
        "days": [1.0, 0.0],
        "value": [None, 2.5],
    }  # as `datasets` gives out a list of dicts
    rows = [{"codes": nested, "notes": "a cough", "age": 70, "label": 1}, {"codes": None, "notes": None, "label": 0}]
    frame, y, patients = from_huggingface(Dataset(rows))
    assert codes(frame, 0) == [("I50", 1.0), ("LAB", 0.0)]
    assert frame["codes"].to_list()[1] is frame["notes"].to_list()[1] is frame["age"].to_list()[1] is None
    assert (y.tolist(), patients) == (["ill", "well"], None)
    columns = to_huggingface(frame, y)
    again = from_huggingface([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    assert again.X.equals(frame)
    assert again.y.tolist() == ["ill", "well"]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"train": [], "test": []}, {}, r"as dataset\['train'\]; got several: train, test"),
        ([], {}, "got none"),
        ([1], {}, "row 0 is of type int"),
        ([{"codes": "I50", "lable": 1}], {}, "did you mean 'lable'"),
        ([{"codes": "I50", "label": None}], {}, "row 0: 'label' is empty"),
        ([{"codes": "I50", "images": object(), "label": 1}], {}, "row 0: column 'images': expected a path"),
    ],
)
def test_what_is_no_dataset(given: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_huggingface(given, **options)


def test_samples_that_are_numbered_already_are_refused() -> None:
    with pytest.raises(UsageError, match="row 0: field 'conditions': expected codes, or visits"):
        from_pyhealth([{"conditions": [[1, 2]], "label": 1}], codes=["conditions"])
