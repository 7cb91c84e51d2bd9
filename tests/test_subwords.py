"""Subwords, and language models that are loaded from a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_inputs import NOTHING, note_inputs, noted

from encoders.notes import NotePretrained, Subwords
from encoders.notes.language import average
from encoders.records import Record
from encoders.weights import without_pretrained
from fusion import UsageError


def save_language(
    folder: Path, *, half: bool = False, positions: int = 64, cut: Callable[[Any], None] | None = None
) -> str:
    """Save a tiny language model and its tokenizer as transformers does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "fever", "chest", "pain", "##s"]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if cut:
        cut(tokenizer)
    marks = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=positions, **size)
    model = transformers.BertModel(config)
    (model.half() if half else model).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_language(tmp_path_factory.mktemp("language"))


def test_subwords_stand_between_marks_oldest_note_first(language: str) -> None:
    subwords = Subwords.fit([], NOTHING, model=language)
    encoded = subwords.encode(noted(("no chest pains", 9.0), ("fever zebra", 2.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 7, 8, 5, 1, 3]
    assert encoded["days"].tolist() == [9, 9, 9, 9, 9, 2, 2, 2]
    assert subwords.encode(Record()) is None
    assert subwords.encode(noted(("", 1.0))) is None


def test_newest_subwords_are_kept_within_the_limit(language: str) -> None:
    subwords = Subwords.fit([], NOTHING, model=language, max_tokens=6)
    encoded = subwords.encode(noted(("no chest pain", 9.0), ("fever fever", 2.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 5, 5, 3]
    assert encoded["days"].tolist() == [9, 9, 9, 2, 2, 2]


def test_subwords_need_no_folder_once_fitted(tmp_path: Path) -> None:
    folder = tmp_path / "language"
    subwords = Subwords.fit([], NOTHING, model=save_language(folder))
    for file in folder.iterdir():
        file.unlink()
    again = Subwords.from_dict(json.loads(json.dumps(subwords.to_dict())))
    encoded = again.encode(noted(("fever", 1.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 5, 3]
    with without_pretrained():
        encoder = NotePretrained(again, 8, model=str(folder))
    assert encoder.width == 16


def test_missing_language_model_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        Subwords.fit([], NOTHING, model=f"{tmp_path}/nowhere")
    text = str(raised.value)
    assert text.startswith(f"cannot load '{tmp_path}/nowhere': ")
    assert text.endswith("; give a local folder, or a hub id where there is a network")
    assert "\n" not in text


@pytest.mark.parametrize("setting", ["truncation", "padding"])
def test_tokenizer_settings_of_its_makers_do_not_apply_to_notes(tmp_path: Path, setting: str) -> None:
    def cut(tokenizer: Any) -> None:
        tokenizer.enable_truncation(2) if setting == "truncation" else tokenizer.enable_padding(length=6)

    subwords = Subwords.fit([], NOTHING, model=save_language(tmp_path, cut=cut))
    encoded = subwords.encode(noted(("no chest pain", 1.0)))
    assert encoded is not None
    assert encoded["ids"].tolist() == [2, 4, 6, 7, 3]


def test_language_model_saved_in_half_precision_can_be_used(tmp_path: Path) -> None:
    folder = save_language(tmp_path, half=True)
    encoder = NotePretrained(Subwords.fit([], NOTHING, model=folder), 8, model=folder).eval()
    assert encoder(note_inputs([[2, 5, 3]])).values.dtype == torch.float32


def test_more_tokens_than_a_language_model_has_places_are_laid_out_in_windows(tmp_path: Path) -> None:
    folder = save_language(tmp_path, positions=16)
    subwords = Subwords.fit([], NOTHING, model=folder, max_tokens=32)
    assert (subwords.window, subwords.max_tokens) == (16, 32)
    assert Subwords.fit([], NOTHING, model=folder).max_tokens == 16


def test_language_model_has_no_pooler_and_averages_neighbours(language: str) -> None:
    encoder = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language, stride=4).eval()
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    found = encoder.features(note_inputs([[2, 4, 5, 6, 7, 3], [2, 5, 3, 0, 0, 0]]))
    assert found.values.shape == (2, 2, 16)
    assert found.mask.tolist() == [[True, True], [True, False]]


def test_average_of_neighbours_by_hand() -> None:
    values = torch.tensor([[[1.0], [2.0], [6.0]], [[4.0], [0.0], [0.0]]])
    found = average(values, torch.tensor([[True, True, True], [True, False, False]]), stride=2)
    assert found.values.flatten().tolist() == [1.5, 6.0, 4.0, 0.0]
    assert found.mask.tolist() == [[True, True], [True, False]]
