"""Pretrained language models: texts longer than they can read, and low-rank adapters."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model, save_model
from torch import nn
from toy_language import save_language
from toy_records import noted, spied

from encoders.notes import NoteInputs, NoteLora, NotePretrained, Subwords
from encoders.notes import language as languages
from encoders.notes.language import read_windows
from encoders.records import Knowledge, Record
from encoders.weights import without_pretrained
from experiments.data.pack import pack_records
from fusion import FUSIONS, FusionModel, UsageError

NOTHING = Knowledge()


# --- windows ---


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a language model that reads eight subwords at once."""
    return save_language(tmp_path_factory.mktemp("language"), "no fever chest pain", positions=8)


LONG = noted(("no fever no fever chest", 9.0), ("pain pain", 2.0))


def test_long_text_is_laid_out_in_windows_with_marks_of_their_own(language: str) -> None:
    found = Subwords.fit([], NOTHING, model=language, max_tokens=32).encode(LONG)
    assert found is not None
    assert found["ids"].tolist() == [2, 4, 5, 4, 5, 6, 7, 3, 2, 7, 3]
    assert found["days"].tolist() == [9, 9, 9, 9, 9, 9, 2, 2, 2, 2, 2]


@given(st.integers(3, 40), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_windows_never_exceed_what_is_allowed(language: str, most: int, words: int) -> None:
    subwords = Subwords.fit([], NOTHING, model=language, max_tokens=most)
    found = subwords.encode(noted((" ".join(["fever"] * words), 1.0)))
    assert found is not None
    ids = found["ids"].tolist()
    windows = [ids[start : start + subwords.window] for start in range(0, len(ids), subwords.window)]
    assert subwords.window == min(8, most)
    assert len(ids) <= most
    for window in windows:
        assert (window[0], window[-1], set(window[1:-1])) == (2, 3, {5})
    assert all(len(window) == subwords.window for window in windows[:-1])
    assert ids.count(5) == min(words, subwords.room)
    # one more word would need one more place, or a window for which there is no room
    assert ids.count(5) == words or most - len(ids) < 3


def test_window_length_is_kept_in_json(language: str) -> None:
    subwords = Subwords.fit([], NOTHING, model=language, max_tokens=20)
    again = Subwords.from_dict(json.loads(json.dumps(subwords.to_dict())))
    assert (again, again.window) == (subwords, 8)


def inputs_of(*texts: list[int]) -> NoteInputs:
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    return NoteInputs(ids, torch.zeros(ids.shape), ids > 0)


FIRST, SECOND, SHORT = [2, 4, 5, 4, 5, 6, 7, 3], [2, 7, 3], [2, 5, 3]


def test_windows_are_read_apart_and_joined_back(language: str) -> None:
    model = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language).eval().language
    long, short = inputs_of([*FIRST, *SECOND], SHORT), inputs_of(SHORT)
    states = read_windows(model, long.ids, long.mask, window=8)
    assert states.shape == (2, 11, 16)
    for found, wanted in ((states[0, :8], FIRST), (states[0, 8:], SECOND), (states[1, :3], SHORT)):
        alone = model(input_ids=torch.tensor([wanted]), attention_mask=torch.ones(1, len(wanted))).last_hidden_state
        torch.testing.assert_close(found, alone[0], rtol=1e-4, atol=1e-5)
    assert (states[1, 3:] == 0).all()
    torch.testing.assert_close(read_windows(model, short.ids, short.mask, window=8)[0], states[1, :3])


def test_windows_of_padding_are_not_read_and_few_are_read_at_once(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language).eval().language
    inputs = inputs_of([*FIRST, *FIRST, *SECOND], SHORT, SHORT)
    whole = read_windows(model, inputs.ids, inputs.mask, window=8)
    monkeypatch.setattr(languages, "_AT_ONCE", 2)
    heard, handle = spied(model)
    parts = read_windows(model, inputs.ids, inputs.mask, window=8)
    handle.remove()
    assert [len(each["input_ids"]) for each in heard] == [2, 2, 1], "five windows hold something, of nine"
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)


def test_nobody_is_read_by_no_model(language: str) -> None:
    encoder = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language).eval()
    heard, handle = spied(encoder.language)
    nothing = torch.zeros(2, 1, dtype=torch.int64)
    found = encoder(NoteInputs(nothing, torch.zeros(2, 1), nothing > 0))
    handle.remove()
    assert not heard
    assert found.values.isfinite().all()


@pytest.mark.parametrize("frozen", [True, False])
def test_pretrained_reads_past_the_positions_of_its_model(language: str, frozen: bool) -> None:
    records = [LONG, noted(("fever " * 30, 1.0)), Record()]
    subwords = Subwords.fit(records, NOTHING, model=language, max_tokens=64)
    packed, index = pack_records(subwords, records)
    encoder = NotePretrained(subwords, 8, model=language, stride=4, frozen=frozen).eval()
    found = encoder(subwords.collate(packed, index))
    assert found.mask.sum(1).tolist() == [3, 10, 0]  # 11 and 40 subwords and marks, four a token
    assert found.values[found.mask].isfinite().all()


def with_config(language: str, folder: Path, **changes: Any) -> str:
    """A copy of a model's folder with another configuration."""
    shutil.copytree(language, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_model_without_room_for_a_word_is_refused(language: str, tmp_path: Path) -> None:
    tiny = with_config(language, tmp_path / "tiny", max_position_embeddings=2)
    with pytest.raises(UsageError, match="reads 2 tokens at once; two marks and a word need 3"):
        Subwords.fit([], NOTHING, model=tiny, max_tokens=8)


def test_positions_kept_for_the_padding_are_not_read(language: str, tmp_path: Path) -> None:
    # as RoBERTa has it: padding is 1, and the first subword stands at position 2
    like_roberta = with_config(language, tmp_path / "it", pad_token_id=1, max_position_embeddings=12)
    assert Subwords.fit([], NOTHING, model=like_roberta, max_tokens=99).window == 10


# --- low-rank adapters ---


def lora(language: str, **params: Any) -> NoteLora:
    torch.manual_seed(0)
    return NoteLora(Subwords.fit([], NOTHING, model=language), 8, model=language, **params).eval()


def test_adapters_start_at_nothing(language: str) -> None:
    adapted, inputs = lora(language), inputs_of(FIRST, SHORT)
    plain = NotePretrained(Subwords.fit([], NOTHING, model=language), 8, model=language).eval()
    plain.adapt.load_state_dict(adapted.adapt.state_dict())
    torch.testing.assert_close(adapted(inputs).values, plain(inputs).values)


def test_only_adapters_are_trained(language: str) -> None:
    encoder = lora(language, rank=4).train()
    trained = {name for name, each in encoder.language.named_parameters() if each.requires_grad}
    assert trained == {name for name, _ in encoder.language.named_parameters() if ".lora_" in name}
    # two layers of query, key, value, output (16 to 16) and the feed-forward 16 to 32 to 16
    assert sum(each.numel() for n, each in encoder.named_parameters() if n.split(".", 1)[1] in trained) == 2 * 4 * (
        4 * (16 + 16) + 2 * (16 + 32)
    )
    before = {name: each.clone() for name, each in encoder.named_parameters()}
    optimizer = torch.optim.Adam([each for each in encoder.parameters() if each.requires_grad], lr=0.01)
    for _ in range(2):  # at first the second matrix is zero and lets nothing through to the first
        optimizer.zero_grad()
        encoder(inputs_of(FIRST, SHORT)).values.square().sum().backward()
        optimizer.step()
    for name, each in encoder.named_parameters():
        moves = ".lora_" in name or name.startswith("adapt")
        assert each.equal(before[name]) is not moves, name


def test_scale_is_alpha_over_rank(language: str) -> None:
    once, twice = (lora(language, scale=scale) for scale in (1.0, 2.0))
    layer, other = (each.language.encoder.layer[0].attention.self.query for each in (once, twice))
    assert (layer.scaling["default"], other.scaling["default"]) == (1.0, 2.0)


def test_layers_that_store_their_transpose_are_adapted_too(language: str, tmp_path: Path) -> None:
    import transformers

    folder = str(shutil.copytree(language, tmp_path / "gpt"))
    config = transformers.GPT2Config(vocab_size=8, n_embd=16, n_layer=1, n_head=2, n_positions=8)
    transformers.GPT2Model(config).save_pretrained(folder)
    encoder = lora(folder, rank=4).train()
    encoder(inputs_of(FIRST)).values.square().sum().backward()
    wide = encoder.language.h[0].attn.c_attn
    assert wide.lora_A["default"].weight.shape == (4, 16)
    assert wide.lora_B["default"].weight.shape == (48, 4)
    assert wide.lora_B["default"].weight.grad.abs().sum() > 0


def test_without_peft_it_says_what_to_install(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError) as raised:
        lora(language)
    assert str(raised.value) == "notes.lora needs peft; install it with: pip install 'ehrfusion[lora]'"


def test_adapted_model_is_rebuilt_without_the_folder_it_came_from(language: str, tmp_path: Path) -> None:
    folder = str(shutil.copytree(language, tmp_path / "language"))
    encoder, inputs = lora(folder), {"notes": inputs_of(FIRST, SHORT)}
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05)

    def whole(notes: nn.Module) -> FusionModel:
        return FusionModel({"notes": notes}, FUSIONS["early"](["notes"], 8), 8, 2).eval()

    saved = whole(encoder)
    save_model(saved, str(tmp_path / "weights.safetensors"))
    subwords = Subwords.from_dict(json.loads(json.dumps(Subwords.fit([], NOTHING, model=folder).to_dict())))
    shutil.rmtree(folder)
    with without_pretrained():
        loaded = whole(NoteLora(subwords, 8, model=folder))
    assert not loaded(inputs).equal(saved(inputs))
    load_model(loaded, str(tmp_path / "weights.safetensors"))
    assert loaded(inputs).equal(saved(inputs))
