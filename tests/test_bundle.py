"""A bundle holds all that predicting needs, says when it was touched, and is written whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from encoders import ENCODERS
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Knowledge, Note, Record
from experiments.bundle import load_bundle, save_bundle
from experiments.feeding import build_model
from fusion import Architecture, FusionModel, Spec, Task, UsageError

TASK = Task("binary", ("death",))
ARCHITECTURE = Architecture({"codes": Spec("bag"), "notes": Spec("bag", {"dropout": 0.2})}, Spec("late"), 8)
CONTRACT = {
    "name": "demo",
    "dataset": "made up",
    "label": "death",
    "window_days": None,
    "data_fingerprint": "d" * 64,
    "split_fingerprint": "s" * 64,
    "git_commit": "abc",
    "seed": 3,
    "cohort": {"train": 700, "tuning": 150, "held_out": 150},
    "training": {"epochs": 3, "lr": 1e-3, "metric": None},
    "versions": {"torch": "2.10"},
}
METRICS = {"auroc": {"value": 0.81234, "low": 0.77, "high": 0.85}, "brier": 0.1, "undefined": math.nan}


def events(*codes: str) -> CodeEvents:
    days = np.arange(len(codes), 0, -1).astype(np.float32)
    return CodeEvents(codes, days, np.full(len(codes), np.nan, np.float32))


def training_records() -> list[Record]:
    note = Note("no fever today but a cough", 1.0, "admission")
    return [
        Record(events("A", "B"), (note,)),
        Record(events("B", "C"), (note,)),
        Record(events("A", "C"), (note,)),
    ] * 2


def mixed_records() -> list[Record]:
    """A full patient, one without notes, one without codes, one with codes never seen, one with nothing."""
    note = Note("a cough", 0.5, "progress")
    return [
        Record(events("A", "B"), (note,)),
        Record(events("C")),
        Record(notes=(note,)),
        Record(events("Z")),
        Record(),
    ]


def fitted(architecture: Architecture) -> tuple[FusionModel, dict[str, Any], dict[str, Any]]:
    plans = {name: preparation(ENCODERS[name], name, spec) for name, spec in architecture.encoders.items()}
    knowledge = Knowledge()
    ready = {name: plan.preprocessor.fit(training_records(), knowledge, **plan.options) for name, plan in plans.items()}
    torch.manual_seed(0)
    return build_model(architecture, ready, TASK.outputs).eval(), ready, plans


def write(folder: Path, architecture: Architecture = ARCHITECTURE, **options: Any) -> FusionModel:
    model, ready, plans = fitted(architecture)
    save_bundle(folder, model, architecture, TASK, ready, plans, CONTRACT, METRICS, **options)
    return model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "model"
    write(folder)
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    target = tmp_path / "copy"
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_what_is_loaded_predicts_what_was_saved(bundle: Path, tmp_path: Path) -> None:
    model = write(tmp_path / "again")
    first = load_bundle(bundle)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, first.model.state_dict()[name])
    assert first.architecture == ARCHITECTURE
    assert first.task == TASK
    assert first.contract["cohort"]["train"] == 700
    assert first.metrics["undefined"] is None
    assert not first.model.training


def test_patients_with_everything_something_and_nothing(bundle: Path) -> None:
    found = load_bundle(bundle).predict_records(mixed_records())
    assert found.shape == (5, 1)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert ((found > 0) & (found < 1)).all()
    assert found[0] != found[4]


def test_a_batch_of_one_is_its_row_in_a_larger_batch(bundle: Path) -> None:
    predictor = load_bundle(bundle)
    together, alone = (
        predictor.predict_records(mixed_records()),
        predictor.predict_records(mixed_records(), 1),
    )
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_no_records_give_no_predictions(bundle: Path) -> None:
    assert load_bundle(bundle).predict_records([]).shape == (0, 1)


def test_only_json_safetensors_and_markdown(bundle: Path) -> None:
    assert sorted(file.name for file in bundle.iterdir()) == [
        "card.md",
        "manifest.json",
        "model.json",
        "weights.safetensors",
    ]
    description = json.loads((bundle / "model.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert description["preparations"]["codes"]["preprocessor"] == "CodeVocabulary"


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "card.md"])
def test_a_changed_file_is_named(copied: Path, name: str) -> None:
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(bytes(content))
    with pytest.raises(UsageError, match=rf"{name}: differs from the bundle's manifest"):
        load_bundle(copied)


def test_a_missing_file_is_named(copied: Path) -> None:
    (copied / "card.md").unlink()
    with pytest.raises(UsageError, match=r"card\.md: missing from the bundle"):
        load_bundle(copied)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a model bundle"):
        load_bundle(tmp_path)


def test_an_unreadable_manifest_and_another_format(copied: Path) -> None:
    (copied / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="not a readable manifest"):
        load_bundle(copied)
    (copied / "manifest.json").write_text('{"format": 9, "sha256": {}}', encoding="utf-8")
    with pytest.raises(UsageError, match="bundle format 9; this version reads format 1"):
        load_bundle(copied)


def test_a_manifest_that_leaves_a_file_out_is_not_believed(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]["model.json"]
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(UsageError, match=r"names no checksum of model\.json"):
        load_bundle(copied)


def test_an_existing_folder_is_kept(bundle: Path, copied: Path) -> None:
    with pytest.raises(UsageError, match="already exists"):
        write(copied)
    write(copied, overwrite=True)
    assert load_bundle(copied).architecture == ARCHITECTURE
    assert [each.name for each in copied.parent.iterdir()] == ["copy"]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr("experiments.bundle.model_card", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_one_must_know(bundle: Path) -> None:
    card = (bundle / "card.md").read_text(encoding="utf-8")
    for text in (
        "not a medical device",
        "| auroc | 0.8123 | 0.77 to 0.85 |",
        "| train | 700 |",
        "codes and notes",
    ):
        assert text in card
    assert "`bag` (dropout 0.2)" in card
    assert "undefined" not in card


@pytest.fixture
def tiny_language_model(tmp_path: Path) -> Path:
    """A language model of random weights in a local folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "today", "but", "a", "cough"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    folder = tmp_path / "language"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=len(words), **shape)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("frozen", [True, False])
def test_a_pretrained_encoder_is_rebuilt_without_its_source(
    tiny_language_model: Path, tmp_path: Path, frozen: bool
) -> None:
    spec = Spec("pretrained", {"model": str(tiny_language_model), "frozen": frozen})
    architecture = Architecture({"notes": spec}, Spec("early"), 8)
    model = write(tmp_path / "model", architecture)
    for file in tiny_language_model.iterdir():
        file.unlink()
    predictor = load_bundle(tmp_path / "model")
    assert predictor.architecture == architecture
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, predictor.model.state_dict()[name])
    assert np.isfinite(predictor.predict_records(mixed_records())).all()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("timm", {"model": "resnet10t", "pretrained": False}),
        ("torchvision", {"model": "resnet18", "pretrained": False}),
    ],
)
def test_an_image_backbone_is_rebuilt(tmp_path: Path, name: str, params: dict[str, Any]) -> None:
    architecture = Architecture({"images": Spec(name, params)}, Spec("early"), 8)
    model = write(tmp_path / "model", architecture)
    predictor = load_bundle(tmp_path / "model")
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, predictor.model.state_dict()[key])
