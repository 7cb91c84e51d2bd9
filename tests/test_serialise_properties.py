"""Records as text for all records: nothing from after the prediction, no order of rows, sections apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toy_records import DESCRIPTIONS, NAN, PATIENT, coded

from encoders.records import Image, Note, Record
from encoders.serialise import BLOCKS, SECTIONS, TextOptions, find_block, write_blocks, write_record
from fusion import UsageError

Events = list[tuple[str, float, float]]
CODES = ["AGE", "GENDER//F", "ICD10CM//E11.9", "ATC//A10BA02", "LAB//creatinine", "VITAL//heart_rate", "CPT//1", "X//y"]
an_event = st.tuples(
    st.sampled_from(CODES),
    st.floats(0, 4000, width=32),
    st.one_of(st.just(NAN), st.floats(-1e4, 1e4, width=32)),
)
some_events = st.lists(an_event, max_size=12)
in_the_future = st.tuples(
    st.sampled_from([*CODES, "MEDS_DEATH"]), st.floats(-4000, -(2.0**-20), width=32), st.just(7.0)
)


@given(some_events, st.lists(in_the_future, min_size=1, max_size=3), st.randoms())
@settings(max_examples=50, deadline=None)
def test_nothing_from_after_the_prediction_is_ever_written(past: Events, future: Events, random: Any) -> None:
    events = [*past, *future]
    random.shuffle(events)
    with pytest.raises(
        UsageError, match="days after the prediction time; a record holds nothing from after it"
    ) as raised:
        write_record(coded(*events), DESCRIPTIONS)
    assert not any(code in str(raised.value) for code in CODES), "a message says where, not what"


@pytest.mark.parametrize("name", ["note", "image"])
def test_notes_and_images_from_after_the_prediction_are_refused(name: str) -> None:
    late = Record(notes=(Note("a secret", -1.0, "x"),)) if name == "note" else Record(images=(Image(Path(), -1.0, ""),))
    with pytest.raises(UsageError, match=f"{name} 0 of a record lies 1 days after") as raised:
        write_record(late, {}, TextOptions(SECTIONS))
    assert "secret" not in str(raised.value)


def test_time_that_is_no_number_is_refused_too() -> None:
    with pytest.raises(UsageError, match="event 1 of a record lies nan days after"):
        write_blocks(coded(("DX//a", 3, NAN), ("DX//b", NAN, NAN)), {})


@given(some_events, st.randoms())
@settings(max_examples=50, deadline=None)
def test_text_depends_on_what_happened_and_not_on_its_order_in_the_record(events: Events, random: Any) -> None:
    mixed = list(events)
    random.shuffle(mixed)
    assert write_record(coded(*mixed), DESCRIPTIONS) == write_record(coded(*events), DESCRIPTIONS)


@given(some_events, st.sampled_from(list(BLOCKS)))
@settings(max_examples=50, deadline=None)
def test_leaving_a_section_out_changes_nothing_else(events: Events, gone: str) -> None:
    record = coded(*events)
    kept = tuple(name for name in BLOCKS if name != gone)
    whole, less = write_blocks(record, DESCRIPTIONS), write_blocks(record, DESCRIPTIONS, TextOptions(kept))
    assert less == {name: whole[name] for name in kept}
    section = f"\n## {BLOCKS[gone].heading}\n\n{whole[gone]}\n"
    assert write_record(record, DESCRIPTIONS, TextOptions(kept)) == write_record(record, DESCRIPTIONS).replace(
        section, ""
    )


@given(some_events, an_event)
@settings(max_examples=50, deadline=None)
def test_an_event_changes_its_own_block_only(events: Events, more: tuple[str, float, float]) -> None:
    assume(more not in events)
    before, after = (write_blocks(coded(*each), DESCRIPTIONS) for each in (events, [*events, more]))
    assert {name for name in BLOCKS if before[name] != after[name]} <= {find_block(more[0])}


def test_notes_and_images_are_not_part_of_it() -> None:
    record = Record(PATIENT.codes, (Note("a secret", 1.0, "x"),))
    assert write_record(record, DESCRIPTIONS) == write_record(PATIENT, DESCRIPTIONS)
