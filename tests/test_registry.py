"""Registering, promoting, finding again, serving: no pickle, aliases, one line where something is absent."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from toy_registry import ARCHITECTURE, Registry, aliases, fresh, picture, registry  # noqa: F401 - fixtures

from experiments.bundle import load_bundle
from experiments.predict import predict_folder
from experiments.tracking.columns import records
from experiments.tracking.registry import promote, register, resolve
from experiments.tracking.runs import Connection
from fusion import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


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
