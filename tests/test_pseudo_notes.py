"""Records read as text, block by block: from scratch and by a pretrained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_language import save_language
from toy_records import DESCRIPTIONS, NAN, PATIENT, coded

from encoders.codes import PseudoNotes, PseudoNoteTransformer
from encoders.codes.pseudo_notes import PseudoNoteInputs
from encoders.notes.language import read_windows
from encoders.preprocessor import preparation
from encoders.records import Knowledge, Record
from encoders.serialise import BLOCKS
from encoders.weights import without_pretrained
from experiments.data.pack import pack_records
from fusion import UsageError
from fusion.component import Spec
from fusion.tokens import Tokens

KNOWN = Knowledge(descriptions=DESCRIPTIONS)


def test_block_is_its_mark_and_its_words_with_numbers_digit_by_digit() -> None:
    notes = PseudoNotes.fit([PATIENT], KNOWN, min_count=1, max_words=12)
    found = notes.encode(coded(("LAB//creatinine", 3, 2.45)))
    assert found is not None
    assert found["ids"].shape == (7, 12)
    words = notes.words
    name = {number: word for word, number in words.number.items()}
    names = {words.mark(block): f"<{block}>" for block in BLOCKS} | name
    told = {row: [names[number] for number in found["ids"][row].tolist() if number] for row in (3, 5)}
    assert told[3] == ["<laboratory>", "-", "creatinine", "in", "serum", "mg", "/", "dl", "2", ".", "4", "5"]
    assert told[5] == ["<procedures>", "no", "procedure", "is", "recorded"]
    assert notes.encode(Record()) is None


def test_unseen_code_is_read_by_its_description() -> None:
    more = Knowledge(descriptions={**DESCRIPTIONS, "LAB//new": "Creatinine in serum (mg/dL)", "LAB//other": "Odd"})
    notes = PseudoNotes.fit([PATIENT], more, max_codes=1)
    assert "LAB//new" in notes.wording.descriptions
    assert "LAB//other" not in notes.wording.descriptions
    old, new = (notes.encode(coded((code, 3, 2.0))) for code in ("LAB//creatinine", "LAB//new"))
    assert old is not None
    assert new is not None
    np.testing.assert_array_equal(old["ids"], new["ids"])


def test_event_after_the_prediction_reaches_no_encoder() -> None:
    notes = PseudoNotes.fit([PATIENT], KNOWN)
    with pytest.raises(UsageError, match="lies 2 days after the prediction time"):
        notes.encode(coded(("ICD10CM//I50.1", -2, NAN)))
    with pytest.raises(UsageError, match="lies 2 days after the prediction time"):
        PseudoNotes.fit([coded(("ICD10CM//I50.1", -2, NAN))], KNOWN)


def test_blocks_are_told_apart_by_what_they_are() -> None:
    notes = PseudoNotes.fit([PATIENT], KNOWN)
    torch.manual_seed(0)
    encoder = PseudoNoteTransformer(notes, 8).eval()
    packed, index = pack_records(notes, [PATIENT, Record(), coded(("X//y", 1, NAN))])
    inputs = notes.collate(packed, index)
    found = encoder(inputs)
    assert found.mask.tolist() == [[True] * 7, [False] * 7, [True] * 7]
    swapped = inputs.ids[:, [1, 0, 2, 3, 4, 5, 6]]
    assert not torch.allclose(encoder(inputs._replace(ids=swapped)).values[0, 2], found.values[0, 2])


@pytest.mark.parametrize(
    ("option", "least"), [("max_words", 2), ("max_codes", 0), ("max_lines", 1), ("last_values", 1)]
)
def test_senseless_options_of_pseudo_notes_are_refused(option: str, least: int) -> None:
    with pytest.raises(UsageError, match=f"{option} must be at least {least}; got {least - 1}"):
        PseudoNotes.fit([], KNOWN, **{option: least - 1})


# --- blocks read by a pretrained model ---


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_language(tmp_path_factory.mktemp("language"), "no procedure is recorded metformin days", positions=256)


def with_model(folder: str, **options: Any) -> tuple[PseudoNotes, PseudoNoteTransformer, PseudoNoteInputs]:
    notes = PseudoNotes.fit([PATIENT], KNOWN, model=folder, **options)
    torch.manual_seed(0)
    packed, index = pack_records(notes, [PATIENT, Record(), coded(("X//y", 1, NAN))])
    return notes, PseudoNoteTransformer(notes, 8, model=folder).eval(), notes.collate(packed, index)


def test_pretrained_model_is_frozen_and_its_features_are_those_it_reads(language: str) -> None:
    notes, encoder, inputs = with_model(language)
    assert encoder.frozen
    assert not any(each.requires_grad for each in encoder.backbone().parameters())
    assert PseudoNotes.from_dict(json.loads(json.dumps(notes.to_dict()))) == notes
    features = encoder.features(inputs)
    assert features.values.shape == (3, 7, 16)
    found = encoder(inputs)
    torch.testing.assert_close(encoder(features).values, found.values)
    torch.testing.assert_close(encoder(Tokens(features.values[:1], features.mask[:1])).values, found.values[:1])
    encoder.train()(inputs).values.square().sum().backward()
    assert all(each.grad is not None for each in encoder.parameters() if each.requires_grad)


def test_mean_of_a_block_by_hand(language: str) -> None:
    notes, encoder, inputs = with_model(language)
    ids = inputs.ids[0, 5]
    ids = (ids[ids > 0] - 1).unsqueeze(0)
    assert (ids[0, 0].item(), ids[0, -1].item()) == (2, 3), "between the marks of the model"
    states = read_windows(encoder.language, ids, ids >= 0, notes.max_words)
    torch.testing.assert_close(encoder.features(inputs).values[0, 5], states[0].mean(0))


def test_model_of_blocks_is_rebuilt_without_its_weights(language: str) -> None:
    notes, encoder, inputs = with_model(language)
    with without_pretrained():
        again = PseudoNoteTransformer(notes, 8, model="/nowhere").eval()
    again.load_state_dict(encoder.state_dict())
    assert again(inputs).values.equal(encoder(inputs).values)


def test_block_longer_than_the_model_reads_is_read_in_windows(tmp_path: Path) -> None:
    small = save_language(tmp_path, "No procedure is recorded", positions=5)
    notes, encoder, inputs = with_model(small, max_words=12)
    # No procedure is | recorded, and the sign at the end that the model does not know
    assert (inputs.ids[0, 5][:9] - 1).tolist() == [2, 4, 5, 6, 3, 2, 7, 1, 3]
    assert (notes.max_words, encoder.window) == (12, 5)
    assert encoder(inputs).values[0].isfinite().all()


def test_hyperparameter_reaches_the_preprocessor(language: str) -> None:
    plan = preparation({"it": PseudoNoteTransformer}, "codes", Spec("it", {"model": language}))
    assert plan.options == {"model": language}
