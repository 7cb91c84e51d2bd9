"""Notes in chunks and notes as weighted words, by hand and by property."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_records import noted, spied

from encoders.notes import (
    ChunkInputs,
    NoteChunks,
    NoteHierarchy,
    NoteTfidf,
    Terms,
    Words,
)
from encoders.notes.reader import WordReader
from encoders.notes.words import most_frequent
from encoders.records import Knowledge, Note, Record
from experiments.data.pack import pack_records
from fusion import UsageError

NOTHING = Knowledge()


# --- chunks ---

VOCABULARY = Words(("fever", "cough", "pain"), ("nursing", "radiology"))  # numbers 4, 5, 6 after the marks 2 and 3


def test_chunks_by_hand() -> None:
    chunks = NoteChunks(VOCABULARY, chunk_words=3, max_chunks=8)
    record = Record(notes=(Note("fever cough pain fever", 9.0, "radiology"), Note("", 2.0, "letter")))
    found = chunks.encode(record)
    assert found is not None
    # the mark of the kind opens the first chunk only; an empty note of an unknown kind is its mark
    assert found["ids"].tolist() == [[3, 4, 5], [6, 4, 0], [1, 0, 0]]
    assert found["days"].tolist() == [9.0, 9.0, 2.0]
    assert found["kinds"].tolist() == [2, 2, 0]
    assert chunks.encode(Record()) is None


def test_too_many_chunks_keep_the_newest_notes_whole_first() -> None:
    record = noted(("fever cough pain", 9.0), ("pain pain pain pain", 5.0), ("cough", 1.0))
    kept = {most: NoteChunks(VOCABULARY, 2, most).encode(record) for most in (1, 3, 5, 99)}
    days = {most: each["days"].tolist() for most, each in kept.items() if each}
    assert days == {1: [1.0], 3: [5.0, 5.0, 1.0], 5: [9.0, 5.0, 5.0, 5.0, 1.0], 99: [9.0, 9.0, 5.0, 5.0, 5.0, 1.0]}
    assert kept[3] is not None
    assert kept[3]["ids"].tolist() == [[2, 6], [6, 6], [2, 5]], "a note loses its end"


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(2, 5), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_chunks_hold_the_notes_they_have_room_for(lengths: list[int], width: int, most: int) -> None:
    record = noted(*((" ".join(["fever", "pain"] * n)[: 6 * n], 30.0 - i) for i, n in enumerate(lengths)))
    found = NoteChunks(VOCABULARY, width, most).encode(record)
    assert found is not None
    assert len(found["ids"]) <= most
    for note in record.notes:
        mine = found["ids"][found["days"] == note.days]
        whole = list(VOCABULARY.read(note))
        read = mine[mine > 0].tolist()
        assert read == whole[: len(read)]
        if len(found["ids"]) < most:
            assert read == whole, "there was room"
    assert (found["days"] == record.notes[-1].days).any(), "the newest note is always there"


@pytest.mark.parametrize(("option", "least"), [("chunk_words", 2), ("max_chunks", 1)])
def test_chunk_of_nothing_is_refused(option: str, least: int) -> None:
    with pytest.raises(UsageError, match=f"{option} must be at least {least}; got {least - 1}"):
        NoteChunks.fit([], NOTHING, **{option: least - 1})


def test_most_frequent_words_are_counted_then_alphabetical() -> None:
    assert most_frequent({"b": 3, "a": 3, "c": 9, "rare": 1}, 3, 2) == ("c", "a", "b")


# --- one vector a piece of text ---


def test_reader_ignores_padding_and_gives_zeros_for_nothing() -> None:
    torch.manual_seed(0)
    reader = WordReader(20, 4, layers=1).eval()
    found = reader(torch.tensor([[5, 6, 7, 0, 0], [0, 0, 0, 0, 0], [7, 6, 5, 0, 0], [5, 6, 7, 8, 9]]))
    torch.testing.assert_close(found[0], reader(torch.tensor([[5, 6, 7]]))[0])
    assert found[1].tolist() == [0.0] * 4
    assert not torch.allclose(found[0], found[2]), "the order of words is lost"
    assert reader(torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 4)


def test_reader_without_neighbours_is_the_mean_of_its_words() -> None:
    reader = WordReader(20, 4).eval()
    with torch.no_grad():
        for parameter in (*reader.local.parameters(), *reader.pool.parameters()):
            parameter.zero_()
    torch.testing.assert_close(reader(torch.tensor([[5, 6, 0]]))[0], reader.embed.weight[[5, 6]].mean(0))


def hierarchy(**params: Any) -> NoteHierarchy:
    torch.manual_seed(0)
    return NoteHierarchy(NoteChunks(VOCABULARY, 3, 8), 8, **params).eval()


def chunk_inputs() -> ChunkInputs:
    ids = torch.tensor([[[2, 4, 5], [6, 0, 0], [3, 4, 0]], [[3, 6, 6], [99, 99, 99], [99, 99, 99]]])
    mask = torch.tensor([[True] * 3, [True, False, False]])
    return ChunkInputs(ids, torch.tensor([[9.0, 9.0, 1.0], [4.0, 0, 0]]), torch.tensor([[1, 1, 2], [2, 9, 9]]), mask)


def test_hierarchy_reads_real_chunks_only() -> None:
    encoder = hierarchy()
    heard, handle = spied(encoder.read)
    found = encoder(chunk_inputs())
    handle.remove()
    assert heard[0][0].tolist() == [[2, 4, 5], [6, 0, 0], [3, 4, 0], [3, 6, 6]]
    assert found.values.shape == (2, 3, 8)


def test_chunks_of_a_hierarchy_are_a_set_that_knows_time_and_kind() -> None:
    encoder, inputs, order = hierarchy(layers=2), chunk_inputs(), [2, 0, 1]
    straight = encoder(inputs).values[:1]
    mixed = encoder(ChunkInputs(*(part[:1, order] for part in inputs))).values
    torch.testing.assert_close(mixed, straight[:, order])
    for part, other in (("days", inputs.days + 50), ("kinds", 3 - inputs.kinds.clamp(max=2))):
        assert not torch.allclose(encoder(inputs._replace(**{part: other})).values[0], straight[0]), part


# --- weighted words ---

TEXTS = ["fever fever cough", "fever pain", "cough cough cough pain", "fever", "dizzy pain cough"]
PATIENTS = [noted((text, 1.0)) for text in TEXTS]


@pytest.mark.parametrize("log_counts", [True, False])
def test_weights_are_those_of_scikit_learn(log_counts: bool) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    terms = Terms.fit(PATIENTS, NOTHING, min_count=1, log_counts=log_counts)
    judge = TfidfVectorizer(sublinear_tf=log_counts, vocabulary=list(terms.words))
    wanted = judge.fit_transform(TEXTS).toarray()
    found = np.stack([terms.weigh(each.notes) for each in PATIENTS])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_weight_of_a_word_by_hand() -> None:
    terms = Terms.fit([noted(("a b", 1.0)), noted(("a", 1.0))], NOTHING, min_count=1)
    assert terms.words == ("a", "b")
    assert terms.weights == pytest.approx((1.0, np.log(3 / 2) + 1), rel=1e-5)
    weights = terms.weigh([Note("a a b", 1.0, "x")])
    first, second = 1 + np.log(2), np.log(3 / 2) + 1
    assert weights == pytest.approx(np.array([first, second]) / np.hypot(first, second), rel=1e-5)


def component_values(terms: Terms, records: list[Record]) -> Any:
    found = [terms.encode(record) for record in records]
    return np.concatenate([each["values"] for each in found if each])


def test_components_are_main_directions_of_equal_spread() -> None:
    terms = Terms.fit(PATIENTS, NOTHING, min_count=1, components=2)
    weights = np.stack([terms.weigh(each.notes) for each in PATIENTS])
    _, _, main = np.linalg.svd(weights, full_matrices=False)
    for found, wanted in zip(np.array(terms.directions), main, strict=False):
        assert abs(found @ wanted) / np.linalg.norm(found) == pytest.approx(1.0, abs=1e-4)
    assert component_values(terms, PATIENTS).std(0) == pytest.approx(1.0, rel=1e-4)


def test_as_many_components_as_the_data_have() -> None:
    assert Terms.fit(PATIENTS, NOTHING, min_count=1, components=64).size == 4, "four words"
    assert Terms.fit(PATIENTS[:2], NOTHING, min_count=1, components=64).size == 1, "two patients differ one way"
    assert Terms.fit([noted((f"{'fever ' * n}", 1.0)) for n in (1, 2)], NOTHING, min_count=1).size == 1


def test_direction_in_which_nobody_differs_is_no_feature() -> None:
    same = Terms.fit([noted(("fever cough", 1.0))] * 5, NOTHING)
    assert component_values(same, [noted(("fever", 1.0)), noted(("cough", 1.0))]).tolist() == [[0.0], [0.0]]


def test_patient_without_a_known_word_is_present() -> None:
    for terms in (Terms.fit(PATIENTS, NOTHING, min_count=1), Terms.fit([], NOTHING), Terms.fit(PATIENTS, NOTHING)):
        for record in (noted(("zebra", 1.0)), noted(("", 1.0))):
            found = terms.encode(record)
            assert found is not None
            assert found["values"].shape == (1, terms.size)
            assert (found["values"] == 0).all()
        assert terms.encode(Record()) is None
        encoder = NoteTfidf(terms, 8).eval()
        packed, index = pack_records(terms, [noted(("zebra", 1.0)), Record()])
        assert encoder(terms.collate(packed, index)).mask.tolist() == [[True], [False]]


def test_saved_terms_need_no_scikit_learn_and_agree_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = Terms.fit(PATIENTS, NOTHING, min_count=1)
    again = Terms.from_dict(json.loads(json.dumps(terms.to_dict())))
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert again == terms
    np.testing.assert_array_equal(component_values(again, PATIENTS), component_values(terms, PATIENTS))
    assert all(float(f"{value:.6g}") == value for row in terms.directions for value in row)


def test_linear_control_finds_a_planted_word_and_nothing_in_noise() -> None:
    random = np.random.default_rng(0)
    common = [f"word{i}" for i in range(3)]
    truth = random.random(400) < 0.5
    texts = [" ".join([*random.choice(common, 6), *(["sepsis"] if sick else [])]) for sick in truth]
    records = [noted((text, 1.0)) for text in texts]
    terms = Terms.fit(records[:200], NOTHING)

    def share_right(labels: Any) -> float:
        values = np.c_[component_values(terms, records), np.ones(400)]
        solution = np.linalg.lstsq(values[:200], labels[:200].astype(float), rcond=None)[0]
        return float(((values[200:] @ solution > 0.5) == labels[200:]).mean())

    assert share_right(truth) > 0.95
    assert 0.35 < share_right(random.random(400) < 0.5) < 0.65
