"""Words of notes and their encoders against numbers by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_inputs import NOTHING, heard_by, note_inputs, noted

from encoders.notes import NoteBag, NoteTransformer, Words
from encoders.notes.words import split_words
from encoders.records import Note, Record


def test_words_are_lower_case_with_numbers_and_signs() -> None:
    assert split_words("No fever; SpO2 91.5% (<90), patient's BP 120/80") == [
        "no", "fever", "spo", "2", "91.5", "%", "<", "90", "patient's", "bp", "120", "/", "80",
    ]  # fmt: skip
    assert split_words("") == []


def test_word_vocabulary_keeps_frequent_words_of_many_records() -> None:
    records = [noted(("pain pain fever", 1)), noted(("fever cough", 1)), noted(("fever cough zeal zeal zeal", 1))]
    assert Words.fit(records, NOTHING, min_count=2).words == ("fever", "cough")
    assert Words.fit(records, NOTHING, min_count=1, vocabulary=3).words == ("fever", "cough", "pain")


def test_note_opens_with_its_kind_and_unknown_words_share_buckets() -> None:
    words = Words(("fever", "cough"), ("nursing", "radiology"))
    # 0 padding, 1 start, 2 nursing, 3 radiology, 4 fever, 5 cough, then 512 buckets
    assert words.size == 6 + 512
    record = Record(notes=(Note("Cough zebra", 2.0, "letter"), Note("fever", 1.0, "radiology")))
    encoded = words.encode(record)
    assert encoded is not None
    ids = encoded["ids"].tolist()
    assert ids[:2] == [1, 5]
    assert 6 <= ids[2] < 518
    assert ids[3:] == [3, 4]
    assert encoded["days"].tolist() == [2, 2, 2, 1, 1]
    assert words.encode(Record()) is None


def test_hashed_words_are_the_same_in_every_process() -> None:
    program = (
        "from encoders.notes import Words; from encoders.records import Note, Record; "
        "record = Record(notes=(Note('zebra okapi quagga', 1.0, 'x'),)); "
        "print(Words((), ()).encode(record)['ids'].tolist())"
    )
    here = Words((), ()).encode(Record(notes=(Note("zebra okapi quagga", 1.0, "x"),)))
    assert here is not None
    root = Path(__file__).resolve().parents[1]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)}
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(there.stdout) == here["ids"].tolist()
    assert len(set(here["ids"].tolist())) == 4


def test_newest_notes_are_kept_whole_first() -> None:
    record = noted(("one two three", 9.0), ("four five", 2.0))
    days = {most: Words((), (), most).encode(record) for most in (7, 5, 4, 2)}
    assert {most: each["days"].tolist() for most, each in days.items() if each} == {
        7: [9, 9, 9, 9, 2, 2, 2],
        5: [9, 9, 2, 2, 2],
        4: [2, 2, 2],  # one place left would hold a start mark and no word
        2: [2, 2],
    }
    whole, cut = days[7], days[5]
    assert whole is not None
    assert cut is not None
    assert cut["ids"].tolist() == [*whole["ids"][:2], *whole["ids"][4:]], "an older note loses its end"


def test_note_bag_tells_the_order_of_words() -> None:
    bag = NoteBag(Words(("no", "fever", "cough"), ()), 4).eval()
    one, other, same = bag(note_inputs([[2, 3, 4], [4, 3, 2], [2, 3, 4]])).values
    assert not torch.allclose(one, other)
    assert one.equal(same)


def test_note_bag_averages_real_words_and_pairs() -> None:
    bag = NoteBag(Words(("no", "fever"), ()), 4).eval()
    heard = heard_by(bag.mix, lambda: bag(note_inputs([[2, 3, 0], [3, 0, 0]])))
    words = bag.embed.weight[[2, 3]]
    torch.testing.assert_close(heard[0, :4], words.mean(0))
    torch.testing.assert_close(heard[0, 4:8], words.amax(0))
    torch.testing.assert_close(heard[0, 8:12], heard[0, 12:])  # one pair is its own mean and maximum
    assert (heard[0, 8:12] != 0).any()
    assert (heard[1, 8:] == 0).all(), "one word makes no pair"


@pytest.mark.parametrize(("stride", "tokens"), [(1, 5), (2, 3), (4, 2)])
def test_note_transformer_strides(stride: int, tokens: int) -> None:
    encoder = NoteTransformer(Words(("no", "fever"), ()), 4, stride=stride).eval()
    found = encoder(note_inputs([[1, 2, 3, 2, 3], [1, 2, 0, 0, 0]]))
    assert found.mask.sum(1).tolist() == [tokens, -(-2 // stride)]
