"""Small pre-training runs, and artefacts of tiny encoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from encoders import ENCODERS
from encoders.artefact import ABOUT, FORMAT, WEIGHTS, ArtefactInputs, weights_digest
from encoders.codes.vocabulary import CodeVocabulary
from encoders.notes.words import Words
from encoders.records import Knowledge
from experiments.audit.pretraining import write_pretraining
from experiments.config import Config, parse_config
from experiments.pretraining.run import Pretrained, pretrain
from experiments.workspace import open_store
from fusion import Spec
from fusion.component import build

PREPROCESS = {"codes": {"max_events": 16}, "notes": {"max_tokens": 16}}
SETTINGS: dict[str, Any] = {
    "encoders": {"codes": "transformer", "notes": "transformer"},
    "dim": 8,
    "epochs": 2,
    "batch_size": 32,
    "warmup_steps": 2,
    "mask_share": 0.3,
}
VOCABULARY = CodeVocabulary(("ATC//A", "ICD10CM//B", "LAB//c"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WORDS = Words(("cough", "fever", "no"), ("nursing",))

SIZES = [{"dim": 4, "layers": 1}, {"dim": 8, "layers": 1}, {"dim": 12, "layers": 1}]


def config_of(folder: Path, runs: Path, *, labels: str = "outcome", **pretraining: Any) -> Config:
    data = {"folder": folder, "labels": labels, "preprocess": PREPROCESS}
    model = {"encoders": {"codes": "bag"}, "dim": 8, "fusion": "early"}
    training = {"epochs": 2, "batch_size": 32, "warmup_steps": 2}
    settings = {"name": "t", "runs": runs, "data": data, "model": model, "training": training}
    return parse_config({**settings, "compare": {"folds": 1}, "pretrain": {**SETTINGS, **pretraining}})


def run(folder: Path, runs: Path, seen: list[Any] | None = None, **pretraining: Any) -> Pretrained:
    config = config_of(folder, runs, **pretraining)
    listen = None if seen is None else lambda epoch, entry: seen.append((epoch, entry))
    return pretrain(config, open_store(config), on_epoch=listen)


@pytest.fixture(scope="module")
def done(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """Encoders of the small folder, pre-trained for two epochs; tests must not write into their folder."""
    return run(small_folder, tmp_path_factory.mktemp("pretrained"))


def copied(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place))


def numbers(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in history]


def write_artefact(folder: Path, vocabulary: CodeVocabulary = VOCABULARY) -> Path:
    """Write an encoder of codes with the weights that chance gave it, and return its folder."""
    spec = Spec("transformer", {"layers": 1})
    tensors = build(ENCODERS["codes"], spec, vocabulary, 8).state_dict()
    prepared = {"name": "CodeVocabulary", "options": {"max_events": 16}, "data": vocabulary.to_dict()}
    about = {"format": FORMAT, "modality": "codes", "encoder": spec.to_dict(), "dim": 8, "preprocessor": prepared}
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / ABOUT).write_text(json.dumps({**about, "sha256": weights_digest(tensors)}), encoding="utf-8")
    write_pretraining(folder, np.arange(3), "made up")
    return folder


def load_artefact(folder: Path) -> Any:
    """Build the encoder as a model does."""
    spec = Spec("artefact", {"path": str(folder)})
    fitted = ArtefactInputs.fit([], Knowledge(), path=str(folder))
    return build(ENCODERS["codes"], spec, fitted, 8)


def rows_of(split: str, config: Config) -> np.ndarray[Any, Any]:
    cohort = open_store(config).cohort
    return np.unique(cohort.subject_ids[cohort.rows(split)])


def scaling_of(folder: Path, runs: Path, **settings: Any) -> dict[str, Any]:
    found = {"sizes": SIZES, "shares": [0.3, 0.6, 1.0], "batch_size": 32, **settings}
    data = {"folder": str(folder), "labels": "outcome", "preprocess": {}}
    return {"data": data, "runs": str(runs), "scaling": found, "pretrain": None}
