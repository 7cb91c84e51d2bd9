"""A registry's mistakes, and the columns of a model that is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from toy_registry import TASK, Registry, aliases, fresh, registry  # noqa: F401 - fixtures

from encoders.records import Note, Record
from experiments.tracking.columns import example, outputs, prediction_frame, records, signature
from experiments.tracking.registry import parse, register, resolve
from experiments.tracking.runs import Connection
from fusion import Task, UsageError


def test_a_model_of_another_tool_is_told(fresh: Connection, tmp_path: Path) -> None:
    code = tmp_path / "other.py"
    code.write_text(
        "import mlflow\nclass M(mlflow.pyfunc.PythonModel):\n    def predict(self, model_input: list[str]):\n"
        "        return model_input\nmlflow.models.set_model(M())\n",
        encoding="utf-8",
    )
    mlflow.pyfunc.save_model(str(tmp_path / "other"), python_model=str(code), pip_requirements=[])
    fresh.client.create_registered_model("other")
    fresh.client.create_model_version("other", (tmp_path / "other").as_uri())
    with pytest.raises(UsageError, match="models:/other/1: was not registered by ehrfusion"):
        resolve("models:/other/1", fresh, tmp_path / "download")


@pytest.mark.parametrize("name", ["", "a/b", "a@b", "a:b"])
def test_names_that_would_not_resolve(registry: Registry, name: str) -> None:
    with pytest.raises(UsageError, match="a model's name has letters"):
        register(registry[1], name, registry[0])


def test_a_registry_that_fails_is_one_line(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, bundle, _ = registry

    def away(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(type(connection.client), "create_logged_model", away)
    with pytest.raises(UsageError, match=r"the model registry at sqlite:.* failed: connection refused"):
        register(bundle, "death-24h", connection)
    assert aliases(connection)["candidate"] == 2


def test_parse() -> None:
    assert parse("models:/a b@champion") == ("a b", "champion")
    assert parse("models:/a/3") == ("a", 3)
    with pytest.raises(UsageError, match="is written models:/NAME@ALIAS"):
        parse("models:/a@")


def test_rows_become_records_oldest_first(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "codes": [["NEW", "OLD"], float("nan"), []],
            "code_days": [[1.0, 9.0], None, None],
            "notes": [np.array(["x", ""], object), None, "one note"],
            "note_kinds": [["progress", None], None, None],
        },
        dtype=object,
    )
    first, second, third = records(frame, tmp_path)
    assert first.codes.codes == ("OLD", "NEW")
    assert first.codes.days.tolist() == [9.0, 1.0]
    assert np.isnan(first.codes.values).all()
    assert first.notes == (Note("x", 0.0, "progress"),)
    assert second == Record(second.codes)
    assert len(second.codes.codes) == 0
    assert third.notes == (Note("one note", 0.0, "note"),)


def test_columns_that_differ_in_length_and_text_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="row 1: code_days has 1 entries, codes has 2"):
        records(pd.DataFrame({"codes": [None, ["A", "B"]], "code_days": [None, [1.0]]}, dtype=object), tmp_path)
    with pytest.raises(UsageError, match="row 0: images must be bytes"):
        records(pd.DataFrame({"images": [["not base64!"]]}, dtype=object), tmp_path)


def test_the_signature_has_the_columns_of_its_modalities() -> None:
    found = signature(["graph"], TASK)
    assert found.inputs.input_names() == ["codes", "code_days", "code_values"]
    assert found.outputs.input_names() == ["probability"]
    assert not any(each.required for each in signature(["codes", "notes", "images"], TASK).inputs.inputs)
    assert list(example(["images"]).columns) == ["image_days"]
    assert outputs(Task("multiclass", ("a", "b"))) == ["a", "b"]
    assert outputs(Task("regression")) == ["value"]
    assert prediction_frame(Task("regression"), np.array([[1.5]], np.float32))["value"].tolist() == [1.5]


def test_the_serving_code_travels_and_no_pickle_does(registry: Registry, tmp_path: Path) -> None:
    model = resolve("models:/death-24h/2", registry[0], tmp_path).parent.parent
    names = {each.name for each in model.rglob("*") if each.is_file()}
    assert {"serve.py", "MLmodel", "weights.safetensors", "model.json", "input_example.json"} <= names
    assert not any(Path(name).suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib") for name in names)
