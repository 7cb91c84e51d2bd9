"""A registered bundle, and connections to its registry."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from encoders import ENCODERS
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Image, Knowledge, Note, Record
from experiments.bundle import save_bundle
from experiments.feeding import build_model
from experiments.tracking.registry import Registered, register
from experiments.tracking.runs import Connection, connect
from fusion import Architecture, Spec, Task

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
