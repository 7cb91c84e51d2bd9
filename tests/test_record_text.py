"""The record as one text read by any language model: what is cut, pooled, cached and refused; tiny models made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_language import save_language
from toy_records import DESCRIPTIONS, MEASURES, NAN, PATIENT, coded

from encoders.codes.pseudo_notes import PseudoNotes
from encoders.codes.record_text import RecordText, RecordTextEncoder, RecordTextInputs
from encoders.notes.language import pool_windows
from encoders.notes.subwords import Subwords
from encoders.preprocessor import Preparation, preparation
from encoders.records import Knowledge, Record
from encoders.weights import without_pretrained
from experiments.config import TrainingConfig, parse_config
from experiments.data import units
from experiments.data.pack import pack_records
from experiments.features import features_key
from experiments.kept import result_path
from experiments.train import train
from experiments.workspace import code_fingerprint, open_store
from fusion import UsageError
from fusion.component import Spec
from fusion.tokens import Tokens

KNOWN = Knowledge(descriptions=DESCRIPTIONS, measures=MEASURES)
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:()/#-"
WORDS = " ".join([*LETTERS, *(f"##{each}" for each in LETTERS)])
PATIENTS = [PATIENT, Record(), coded(("X//y", 1, NAN))]


def save_decoder(folder: Path, kind: str = "gpt2") -> str:
    """Save a decoder, or an encoder with a decoder, whose tokenizer cuts bytes and has a mark for the end only."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    signs = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|end|>"]
    tokenizer = Tokenizer(models.BPE({sign: i for i, sign in enumerate(signs)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=len(signs), n_positions=64, n_embd=16, n_layer=2, n_head=2)
        transformers.GPT2Model(config).save_pretrained(folder)
    elif kind == "llama":
        size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        llama = transformers.LlamaConfig(vocab_size=len(signs), max_position_embeddings=64, **size)
        transformers.LlamaModel(llama).save_pretrained(folder)
    else:
        t5 = transformers.T5Config(vocab_size=len(signs), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        transformers.T5Model(t5).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_language(tmp_path_factory.mktemp("language"), WORDS, positions=64)


def ready(folder: str, pool: str = "mean", **options: Any) -> tuple[RecordText, RecordTextEncoder, RecordTextInputs]:
    text = RecordText.fit([PATIENT], KNOWN, model=folder, **options)
    torch.manual_seed(0)
    packed, index = pack_records(text, PATIENTS)
    return text, RecordTextEncoder(text, 8, model=folder, pool=pool).eval(), text.collate(packed, index)


def decoded(text: RecordText, record: Record) -> str:
    from tokenizers import Tokenizer

    found = text.encode(record)
    assert found is not None
    return str(Tokenizer.from_str(text.subwords.tokenizer).decode(found["ids"].tolist()))


# --- the text a model is given ---


def test_a_byte_tokenizer_is_given_the_text_as_it_is(tmp_path: Path) -> None:
    text = RecordText.fit([PATIENT], KNOWN, model=save_decoder(tmp_path), max_tokens=2000)
    wanted = text.wording.whole(coded(("LAB//creatinine", 3, 2.45)))
    assert "2.45 (high; reference 0.7 to 1.3); 3 days before" in wanted
    assert decoded(text, coded(("LAB//creatinine", 3, 2.45))) == wanted


@pytest.mark.parametrize("most", [64, 90, 130, 200])
def test_of_a_text_that_is_too_long_whole_lines_are_kept(tmp_path: Path, most: int) -> None:
    text = RecordText.fit([PATIENT], KNOWN, model=save_decoder(tmp_path), max_tokens=most)
    whole, kept = text.wording.whole(PATIENT), decoded(text, PATIENT)
    assert whole.startswith(kept)
    assert 0 < len(kept) < most
    assert whole[len(kept)] == "\n", "a line was cut"
    following = whole[len(kept) :].split("\n")[1]
    assert len(kept) + 1 + len(following) >= text.subwords.room, "a line that had room is missing"


def test_of_a_first_line_that_is_too_long_the_beginning_is_kept(tmp_path: Path) -> None:
    text = RecordText.fit([PATIENT], KNOWN, model=save_decoder(tmp_path), max_tokens=8)
    assert decoded(text, PATIENT) == "# Pati"


def test_a_model_without_an_opening_mark_is_given_none(tmp_path: Path) -> None:
    subwords = Subwords.fit([], KNOWN, model=save_decoder(tmp_path), max_tokens=8)
    ids = subwords.number("ab")
    assert (len(ids), ids[-1]) == (3, 256), "two bytes and the end"


def test_sections_and_an_instruction(language: str) -> None:
    text = RecordText.fit([PATIENT], KNOWN, model=language, sections="laboratory, vitals", instruction="Will it\nend?")
    assert text.instruction == "Will it end?"
    assert text.wording.whole(PATIENT).count("\n## ") == 2
    told = RecordText.fit([PATIENT], KNOWN, model=language, sections="laboratory,vitals")
    assert len(text.encode(PATIENT)["ids"]) > len(told.encode(PATIENT)["ids"])  # type: ignore[index]
    with pytest.raises(UsageError, match="sections: notes are a modality of their own"):
        RecordText.fit([PATIENT], KNOWN, model=language, sections="notes")
    with pytest.raises(UsageError, match="did you mean 'drugs'"):
        RecordText.fit([PATIENT], KNOWN, model=language, sections="drug")


def test_it_survives_json_and_needs_no_folder(language: str) -> None:
    text, encoder, inputs = ready(language)
    again = RecordText.from_dict(json.loads(json.dumps(text.to_dict())))
    assert again == text
    assert text.encode(Record()) is None
    with without_pretrained():
        rebuilt = RecordTextEncoder(again, 8, model="/nowhere").eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert rebuilt(inputs).values.equal(encoder(inputs).values)


# --- what a model makes of it ---


def test_pooling_by_hand() -> None:
    states = torch.arange(1.0, 13.0).reshape(2, 6, 1)
    mask = torch.tensor([[True] * 5 + [False], [True, True] + [False] * 4])
    wanted = {"mean": [3.0, 7.5], "first": [(1 + 4) / 2, 7.0], "last": [(3 + 5) / 2, 8.0]}
    for pool, (one, other) in wanted.items():
        torch.testing.assert_close(pool_windows(states, mask, 3, pool).squeeze(1), torch.tensor([one, other]))
    assert pool_windows(states, mask & False, 3, "last").tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("pool", ["mean", "first", "last"])
def test_any_model_reads_it(tmp_path: Path, kind: str, pool: str) -> None:
    folder = save_language(tmp_path, WORDS, positions=64) if kind == "bert" else save_decoder(tmp_path, kind)
    _, encoder, inputs = ready(folder, pool, max_tokens=128)
    found = encoder(inputs)
    assert found.values.shape == (3, 1, 8)
    assert found.mask.tolist() == [[True], [False], [True]]
    assert found.values[[0, 2]].isfinite().all()
    alone = RecordTextInputs(inputs.ids[2:], inputs.mask[2:])
    torch.testing.assert_close(encoder(alone).values, found.values[2:])
    features = encoder.features(inputs)
    torch.testing.assert_close(encoder(Tokens(*features)).values, found.values)
    assert not [name for name, each in encoder.named_parameters() if each.requires_grad and "language" in name]


def test_the_last_token_of_a_decoder_has_read_what_stands_before_it(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path)
    _, encoder, inputs = ready(folder, "last", max_tokens=62)
    changed = inputs._replace(ids=inputs.ids.clone())
    changed.ids[0, 3] = 7
    before, after = (encoder.features(each).values[0] for each in (inputs, changed))
    assert not torch.allclose(before, after)
    _, first, _ = ready(folder, "first", max_tokens=62)
    before, after = (first.features(each).values[0] for each in (inputs, changed))
    torch.testing.assert_close(before, after)  # and the first has not


# --- features are computed once, and anew where they would differ ---


def test_what_features_hang_on_is_in_their_key(language: str, tmp_path: Path) -> None:
    def key(folder: str, pool: str = "mean") -> str:
        _, encoder, _ = ready(folder, pool)
        return features_key(encoder)

    other = save_decoder(tmp_path / "other")
    assert key(language) == key(language)
    assert len({key(language), key(language, "first"), key(other)}) == 3


def test_what_prepared_texts_hang_on_is_in_their_fingerprint(small_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "language"
    save_language(folder, WORDS, positions=64)
    catalogue = {"record_text": RecordTextEncoder}

    def fingerprint(**options: Any) -> str:
        data = {"folder": small_folder, "preprocess": {"codes": options}}
        model = {"encoders": {"codes": {"name": "record_text", "model": str(folder)}}, "fusion": "early", "dim": 8}
        config = parse_config({"name": "t", "runs": tmp_path, "data": data, "model": model})
        plan = preparation(catalogue, "codes", Spec("record_text", {"model": str(folder)}), options)
        return open_store(config).fingerprint(plan)

    one = fingerprint()
    assert one == fingerprint()
    assert len({one, fingerprint(sections="drugs"), fingerprint(last_values=2), fingerprint(instruction="x")}) == 4
    file = folder / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8").replace('"[UNK]": 1', '"[UNK]": 1 '), encoding="utf-8")
    assert fingerprint() != one, "another tokenizer in the same folder"


def test_changed_reference_ranges_are_told_anew(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_config(
        {"name": "t", "runs": tmp_path, "data": {"folder": small_folder}, "model": {"encoders": {"codes": "bag"}}}
    )
    plan = Preparation("codes", PseudoNotes, {})

    def looks() -> tuple[str, ...]:
        store = open_store(config)
        code_fingerprint.cache_clear()  # in a process the code does not change
        return store.fingerprint(plan), str(result_path(tmp_path, {}, 0, config, store))

    before = looks()
    assert looks() == before
    changed = tmp_path / "references.csv"
    changed.write_text("code,low,high,source\n", encoding="utf-8")
    shipped = units.table
    monkeypatch.setattr(units, "table", lambda name: changed if name == "references" else shipped(name))
    assert not [old for old, new in zip(before, looks(), strict=True) if old == new]


def test_it_is_trained_on_cached_features(small_folder: Path, tmp_path: Path, language: str) -> None:
    data = {"folder": small_folder, "preprocess": {"codes": {"max_tokens": 60}}}
    encoder = {"name": "record_text", "model": language}
    model = {"encoders": {"codes": encoder}, "fusion": "early", "dim": 8}
    config = parse_config({"name": "t", "runs": tmp_path, "data": data, "model": model})
    fit = train(config.model.architecture(), open_store(config), TrainingConfig(epochs=1), 0,  # type: ignore[union-attr]
                preprocess=config.data.preprocess)  # fmt: skip
    assert 0 <= fit.score <= 1
    cached = sorted((tmp_path / "cache").glob("features-*"))
    assert len(cached) == 2, "of the train and the tuning split"
    assert all(not each.stat().st_mode & 0o077 for each in cached)


def made(folder: Path) -> None:
    RecordTextEncoder(RecordText.fit([PATIENT], KNOWN, model=str(folder)), 8, model=str(folder))


@pytest.mark.parametrize("missing", ["everything", "tokenizer", "weights", "words"])
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "model"
    if missing != "everything":
        save_language(folder, WORDS, positions=64)
        config = folder / "config.json"
        about = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**about, "vocab_size": 5 if missing == "words" else about["vocab_size"]}))
        for each in folder.glob({"tokenizer": "tokenizer*", "weights": "model.*", "words": "nothing"}[missing]):
            each.unlink()
    with pytest.raises(UsageError) as raised:
        made(folder)
    assert f"cannot load '{folder}'" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert missing != "words" or "subwords and the model 5; they do not belong together" in str(raised.value)
