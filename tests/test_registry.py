"""Registering, promoting, finding again, serving: no pickle, aliases, one line where something is absent."""

from __future__ import annotations

import base64
import io
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image as Picture

from encoders import ENCODERS
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Image, Knowledge, Note, Record
from experiments.bundle import load_bundle, save_bundle
from experiments.feeding import build_model
from experiments.predict import predict_folder
from experiments.tracking.columns import example, outputs, prediction_frame, records, signature
from experiments.tracking.registry import Registered, parse, promote, register, resolve
from experiments.tracking.runs import Connection, connect
from fusion import Architecture, Spec, Task, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

Registry = tuple[Connection, Path, list[Registered]]
TASK = Task("binary", ("death",))
ARCHITECTURE = Architecture(
    {name: Spec(kind) for name, kind in (("codes", "bag"), ("notes", "bag"), ("images", "conv"))},
    Spec("early"),
    8,
)
CONTRACT = {
    "data_fingerprint": "d1",
    "split_fingerprint": "s1",
    "git_commit": "abc",
    "label": "death",
    "window_days": None,
}


def picture(seed: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32), dtype=np.uint8)
    Picture.fromarray(pixels).save(content, "png")
    return content.getvalue()


def write_bundle(folder: Path, seed: int = 0) -> Path:
    image = folder.parent / "train.png"
    image.write_bytes(picture(seed))
    record = Record(
        CodeEvents(("A", "B"), np.array([2, 1], np.float32), np.array([np.nan, 3], np.float32)),
        (Note("a cough", 1.0, "admission"),),
        (Image(image, 1.0, "PA"),),
    )
    plans = {name: preparation(ENCODERS[name], name, spec) for name, spec in ARCHITECTURE.encoders.items()}
    ready = {name: plan.preprocessor.fit([record] * 4, Knowledge(), **plan.options) for name, plan in plans.items()}
    torch.manual_seed(seed)
    model = build_model(ARCHITECTURE, ready, TASK.outputs).eval()
    return save_bundle(folder, model, ARCHITECTURE, TASK, ready, plans, CONTRACT, {"auroc": 0.8})


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A tracker in which two versions of a model are registered, and the bundle of the second."""
    folder = tmp_path_factory.mktemp("registry")
    connection = connect(f"sqlite:///{folder}/mlflow.db", folder)
    found = []
    for seed in (0, 1):
        bundle = write_bundle(folder / f"bundle-{seed}", seed)
        found.append(
            register(bundle, "death-24h", connection, metrics={"auroc": 0.8 + seed / 100, "ece": float("nan")})
        )
    return connection, folder / "bundle-1", found


def aliases(connection: Connection) -> dict[str, int]:
    found = connection.client.get_registered_model("death-24h").aliases
    return {alias: int(version) for alias, version in found.items()}


@pytest.fixture
def fresh(registry: Registry) -> Connection:
    """The same registry without champion and previous."""
    connection = registry[0]
    for alias in ("champion", "previous"):
        connection.client.delete_registered_model_alias("death-24h", alias)
    return connection


@pytest.fixture
def loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The registered model, loaded as anybody would, with unpickling forbidden."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry[0].uri)
    return mlflow.pyfunc.load_model("models:/death-24h@candidate")


def test_a_registered_model_carries_what_it_came_from(
    registry: Registry,
) -> None:
    connection, _, (first, second) = registry
    assert (first.version, second.version) == (1, 2)
    assert second.uri == "models:/death-24h/2"
    version = connection.client.get_model_version("death-24h", "2")
    assert version.tags["data_fingerprint"] == "d1"
    assert version.tags["split_fingerprint"] == "s1"
    assert version.tags["git_commit"] == "abc"
    assert version.tags["test.auroc"] == "0.81"
    assert "not a medical device" in version.description
    assert aliases(connection)["candidate"] == 2
    run = connection.client.get_run(second.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"test/auroc": 0.81}
    assert connection.client.get_logged_model(second.model_id).metrics[0].value == 0.81
    assert [each.path for each in connection.client.list_artifacts(second.run_id)] == ["card.md"]


def test_registering_leaves_no_trace_in_the_current_folder_or_the_global_state(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, bundle, _ = registry
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    register(bundle, "another", connection)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    assert list(tmp_path.iterdir()) == []


def test_it_loads_without_pickle_and_predicts_what_the_bundle_does(
    registry: Registry, loaded: Any, tmp_path: Path
) -> None:
    frame = pd.DataFrame(
        {
            "codes": [["A", "B", "Z"], None, None],
            "code_days": [[5.0, 1.0, 0.5], None, None],
            "code_values": [[float("nan"), 3.5, 1.0], None, None],
            "notes": [["a cough"], ["a cough"], None],
            "images": [[picture(3)], None, None],
        },
        dtype=object,
    )
    found = loaded.predict(frame)
    assert list(found.columns) == ["probability"]
    expected = load_bundle(registry[1]).predict_records(records(frame, tmp_path))
    np.testing.assert_allclose(found["probability"], expected[:, 0], rtol=1e-6)
    assert found["probability"].nunique() == 3


def test_columns_may_be_left_out(loaded: Any) -> None:
    found = loaded.predict(pd.DataFrame({"codes": [["A"], None]}, dtype=object))
    assert found["probability"].between(0, 1).all()
    assert len(found) == 2


def test_the_input_example_works(loaded: Any) -> None:
    assert len(loaded.predict(loaded.input_example)) == 2


def test_it_serves_json_with_nulls_and_base64_images(loaded: Any) -> None:
    from mlflow.pyfunc.scoring_server import init
    from starlette.testclient import TestClient

    client = TestClient(init(loaded))
    rows = [
        {"codes": ["A"], "images": [base64.b64encode(picture(3)).decode()]},
        {"codes": None, "images": None},
    ]
    answer = client.post("/invocations", json={"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    in_process = loaded.predict(pd.DataFrame({"codes": [["A"], None], "images": [[picture(3)], None]}, dtype=object))
    np.testing.assert_allclose(
        [each["probability"] for each in answer.json()["predictions"]], in_process["probability"]
    )


def test_a_touched_artifact_does_not_load(registry: Registry, tmp_path: Path) -> None:
    connection = registry[0]
    bundle = resolve("models:/death-24h/1", connection, tmp_path)
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(UsageError, match=r"weights\.safetensors: differs"):
        load_bundle(bundle)


def test_promoting_moves_champion_and_keeps_previous(fresh: Connection) -> None:
    first = promote(fresh, "death-24h", 1)
    assert (first.champion, first.previous) == (1, None)
    second = promote(fresh, "death-24h")
    assert (second.champion, second.previous) == (2, 1)
    assert promote(fresh, "death-24h", "candidate").previous == 1  # again changes nothing
    assert aliases(fresh) == {"candidate": 2, "champion": 2, "previous": 1}
    back = promote(fresh, "death-24h", "previous")
    assert (back.champion, back.previous) == (1, 2)


def test_resolving_by_alias_version_and_folder(fresh: Connection, registry: Registry, tmp_path: Path) -> None:
    promote(fresh, "death-24h", 1)
    champion = resolve("models:/death-24h@champion", fresh, tmp_path / "a")
    assert load_bundle(champion).architecture == ARCHITECTURE
    assert (champion / "manifest.json").read_bytes() == (registry[1].parent / "bundle-0" / "manifest.json").read_bytes()
    newest = resolve("models:/death-24h/2", fresh, tmp_path / "b")
    assert (newest / "manifest.json").read_bytes() == (registry[1] / "manifest.json").read_bytes()
    assert resolve(registry[1], None, tmp_path) == registry[1]


def test_predicting_a_folder_with_a_registered_model(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "folder" / "data").mkdir(parents=True)
    events = {"subject_id": [1, 2], "time": [datetime(2026, 1, 1)] * 2, "code": ["A", "Z"]}
    pl.DataFrame(events).write_parquet(tmp_path / "folder" / "data" / "0.parquet")
    wanted = [tmp_path / "folder", tmp_path / "out.parquet"]
    predict_folder("models:/death-24h/1", *wanted, tracking=registry[0].uri, runs=tmp_path)
    by_name = pl.read_parquet(wanted[1])
    predict_folder(registry[1].parent / "bundle-0", *wanted)
    assert by_name.equals(pl.read_parquet(wanted[1]))
    with pytest.raises(UsageError, match="unknown alias 'champ'"):
        predict_folder("models:/death-24h@champ", *wanted, tracking=registry[0].uri, runs=tmp_path)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/death-24@champion", "unknown registered model 'death-24'; did you mean 'death-24h'?"),
        (
            "models:/death-24h@champoin",
            "models:/death-24h: unknown alias 'champoin'; did you mean 'champion'?",
        ),
        ("models:/death-24h/7", "models:/death-24h: unknown version '7'; known: 1, 2"),
        ("models:/death-24h", "a registered model is written models:/NAME@ALIAS or models:/NAME/VERSION"),
        (
            "no/such/folder",
            "no bundle folder 'no/such/folder'; a registered model is written models:/NAME@ALIAS",
        ),
    ],
)
def test_what_is_not_there_is_one_line(fresh: Connection, uri: str, message: str, tmp_path: Path) -> None:
    promote(fresh, "death-24h", 1)
    with pytest.raises(UsageError) as caught:
        resolve(uri, fresh, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
