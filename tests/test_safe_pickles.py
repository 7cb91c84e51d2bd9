"""Nothing that is loaded is unpickled: a pickle that would run code is refused wherever a file or database is read."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy_pretraining import load_artefact, write_artefact
from toy_registry import write_bundle
from toy_store import PLANS, folder, open_at  # noqa: F401 - a fixture

from encoders.images.pixels import read_pixels
from encoders.images.torchvision import _create
from encoders.records import UnreadableImage
from experiments.audit.pretraining import read_pretraining
from experiments.bundle import MANIFEST, WEIGHTS, _sha256, load_bundle
from experiments.checkpoint import Checkpoint, previous, read_checkpoint, write_checkpoint
from experiments.config import load_config
from experiments.data.tables import TEXT, read_table
from experiments.features import read_features
from experiments.held_out import HeldOut
from fusion.component import UsageError
from search.samplers import make_sampler

ROOT = Path(__file__).resolve().parents[1]


class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return exec, (f"open({str(self.mark)!r}, 'w').close()",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "exploded"


@pytest.fixture
def bomb(mark: Path) -> bytes:
    """A pickle that works, as the test below shows of it."""
    return pickle.dumps(Bomb(mark))


def torch_file(path: Path, mark: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weight": Bomb(mark)}, path)


def torch_bytes(mark: Path, folder: Path) -> bytes:
    torch_file(folder / "torch" / "a", mark)
    return (folder / "torch" / "a").read_bytes()


def test_the_bomb_explodes_where_it_is_unpickled(bomb: bytes, mark: Path) -> None:
    pickle.loads(bomb)
    assert mark.exists()


def test_no_module_can_unpickle() -> None:
    """The only unpickler is the one of `search.cmaes`, which the test of cmaes below is about."""
    found = []
    for path in (
        each for name in ("fusion", "encoders", "search", "experiments") for each in (ROOT / name).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            risky = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "skops"}
            if risky & {each.partition(".")[0] for each in [*names, module]} and names != ["UnpicklingError"]:
                found.append(path.relative_to(ROOT).as_posix())
            call = ast.unparse(node) if isinstance(node, ast.Call) else ""
            if call.startswith(("torch.load(", "pd.read_pickle(")) or "allow_pickle=True" in call:
                found.append(f"{path.name}: {call}")
            if call.startswith("np.load("):
                assert "allow_pickle=False" in call, path
    assert found == ["search/cmaes.py"]


def test_checkpoints(bomb: bytes, mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "trial.safetensors"
    write_checkpoint(path, Checkpoint({"a": torch.ones(2)}, {"epoch": 1}))
    path.replace(previous(path))
    path.write_bytes(bomb)
    found = read_checkpoint(path)
    assert found is not None  # the one before it is taken
    assert found.state == {"epoch": 1}
    torch_file(path, mark)
    torch_file(previous(path), mark)
    assert read_checkpoint(path) is None
    assert not mark.exists()


def test_weights_of_a_bundle_with_a_right_checksum(mark: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    torch_file(bundle / WEIGHTS, mark)
    manifest = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    manifest["sha256"][WEIGHTS] = _sha256(bundle / WEIGHTS)
    (bundle / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError, match="does not fit the model this version builds"):
        load_bundle(bundle)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["preprocessor.json", "columns.json"])
def test_prepared_tensors(folder: Path, bomb: bytes, mark: Path, tmp_path: Path, name: str) -> None:
    store, plan = open_at(folder, tmp_path / "cache"), PLANS[0]
    store.prepare([plan])
    (store.folder(plan) / name).write_bytes(bomb)
    with pytest.raises(UsageError, match=r"these prepared tensors are damaged .*; remove the folder, and it is"):
        store.source(plan)
    assert not mark.exists()


def test_prepared_tensors_that_say_they_hold_objects(folder: Path, bomb: bytes, mark: Path, tmp_path: Path) -> None:
    store, plan = open_at(folder, tmp_path / "cache"), PLANS[0]
    store.prepare([plan])
    about = store.folder(plan) / "columns.json"
    told = json.loads(about.read_text(encoding="utf-8"))
    name = min(told["columns"])
    about.write_text(json.dumps({**told, "columns": {**told["columns"], name: ["|O", []]}}), encoding="utf-8")
    (store.folder(plan) / f"{name}.bin").write_bytes(bomb + bytes(-len(bomb) % 8))
    with pytest.raises(UsageError, match="damaged"):
        store.source(plan)
    assert not mark.exists()


def test_pre_trained_encoders(bomb: bytes, mark: Path, tmp_path: Path) -> None:
    artefact = write_artefact(tmp_path / "codes")
    torch_file(artefact / "weights.safetensors", mark)
    with pytest.raises(UsageError, match=r"weights\.safetensors: not readable"):
        load_artefact(artefact)
    (artefact / "encoder.json").write_bytes(bomb)
    with pytest.raises(UsageError, match=r"encoder\.json: not readable as a pre-trained encoder"):
        load_artefact(artefact)
    (artefact / "pretraining.json").write_bytes(bomb)
    with pytest.raises(UsageError, match="not a list of pre-training patients"):
        read_pretraining(artefact / "pretraining.json")
    assert not mark.exists()


def test_features_of_frozen_encoders(bomb: bytes, mark: Path, tmp_path: Path) -> None:
    for content in (bomb, torch_bytes(mark, tmp_path)):
        (tmp_path / "features-a.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match="not readable"):
            read_features(tmp_path / "features-a.safetensors")
    assert not mark.exists()


def test_predictions_of_a_comparison(mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    np.savez(path, predictions=np.array([Bomb(mark)], object))
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        HeldOut(none, none, none, none, {}, files={"a": [[path]]}).arrays("a", "predictions")
    assert not mark.exists()


def test_weights_that_torchvision_finds_in_its_cache(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2]
    torch_file(tmp_path / "hub" / "checkpoints" / name, mark)
    with pytest.raises(UsageError, match="cannot load the weights of 'shufflenet_v2_x0_5'"):
        _create("shufflenet_v2_x0_5", True)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_images(bomb: bytes, mark: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(bomb)
    with pytest.raises(UnreadableImage):
        read_pixels(tmp_path / name, 8, 1)
    assert not mark.exists()


def test_parquet_with_an_extension_type_that_holds_a_pickle(bomb: bytes, mark: Path, tmp_path: Path) -> None:
    """Arrow before 14.0.1 unpickled the metadata of such a type: CVE-2023-47248."""
    metadata = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": bomb}
    schema = pa.schema([pa.field("code", pa.string(), metadata=metadata)], {b"pandas": bomb})
    pq.write_table(pa.table([pa.array(["A"])], schema), tmp_path / "a.parquet", store_schema=True)
    try:
        assert read_table(tmp_path / "a.parquet", {"code": TEXT})["code"].to_list() == ["A"]
    except UsageError as error:
        assert "a.parquet" in str(error)  # noqa: PT017 - either is right
    pl.DataFrame({"code": [bomb]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(UsageError, match="column 'code' must be string; got Binary"):
        read_table(tmp_path / "b.parquet", {"code": TEXT})
    assert not mark.exists()


def test_yaml(mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"name: !!python/object/apply:pathlib.Path.touch [{mark}]\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not readable as YAML"):
        load_config(path)
    assert not mark.exists()


def optimised(tmp_path: Path) -> optuna.Study:
    """A study whose cmaes has written its state: one generation of trials."""
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path}/study.db", sampler=make_sampler("cmaes", 1, startup_trials=1)
    )
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), 20)
    return study


def test_attributes_of_trials_in_the_storage(bomb: bytes, mark: Path, tmp_path: Path) -> None:
    """Optuna's own cmaes explodes here: it unpickles what anybody wrote into the database."""
    study = optimised(tmp_path)
    sampler: Any = make_sampler("cmaes", 2)
    trials = study.get_trials()
    assert sampler._restore_optimizer(trials).generation > 0  # what cmaes wrote itself comes back
    trials[-1].system_attrs = {f"{sampler._attr_key_optimizer}:0": bomb.hex()}
    with pytest.raises(UsageError, match="the state of cmaes in the study storage is not what cmaes writes"):
        sampler._restore_optimizer(trials)
    assert not mark.exists()
    optuna.samplers.CmaEsSampler._restore_optimizer(sampler, trials)
    assert mark.exists()
