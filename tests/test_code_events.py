"""Coded events: vocabulary, values, the events that are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_inputs import NAN, NOTHING, coded

from encoders.codes import CodeVocabulary
from encoders.graph import CodeGraph
from encoders.images import ImagePixels
from encoders.records import Record
from fusion import UsageError


def test_vocabulary_counts_records_not_events() -> None:
    twice, once = coded(("a", 2, NAN), ("a", 1, NAN), ("b", 1, NAN)), coded(("b", 1, NAN))
    assert CodeVocabulary.fit([twice, once], NOTHING).codes == ("b",)
    assert CodeVocabulary.fit([twice, once], NOTHING, min_count=1).codes == ("a", "b")
    assert CodeVocabulary.fit([], NOTHING).size == 1


def test_vocabulary_standardises_by_median_and_quartiles() -> None:
    records = [coded(("lab", 1, value), ("flat", 1, 7.0), ("plain", 1, NAN)) for value in (1.0, 2.0, 3.0, 4.0)]
    vocabulary = CodeVocabulary.fit(records, NOTHING)
    # quartiles of 1, 2, 3, 4 are 1.75 and 3.25; a constant or absent value keeps its own unit
    assert vocabulary.codes == ("flat", "lab", "plain")
    assert vocabulary.center == pytest.approx((7.0, 2.5, 0.0))
    assert vocabulary.scale == pytest.approx((1.0, 1.5 / 1.349, 1.0))
    encoded = vocabulary.encode(coded(("lab", 3, 4.0), ("lab", 2, NAN), ("flat", 1, 9.0), ("plain", 1, 0.5)))
    assert encoded is not None
    assert encoded["codes"].tolist() == [2, 2, 1, 3]
    assert encoded["values"] == pytest.approx([1.349, 0.0, 2.0, 0.5])
    assert encoded["has_value"].tolist() == [True, False, True, True]
    assert encoded["days"].tolist() == [3, 2, 1, 1]


def test_mostly_constant_value_is_scaled_by_its_standard_deviation() -> None:
    records = [coded(("lab", 1, value)) for value in (0.0, 0.0, 0.0, 0.0, 10.0)]
    assert CodeVocabulary.fit(records, NOTHING).scale == pytest.approx((4.0,))


def test_wild_values_are_clipped_and_infinite_ones_are_none() -> None:
    records = [coded(("lab", 1, value)) for value in (-1.0, 0.0, 1.0, np.inf)]
    vocabulary = CodeVocabulary.fit(records, NOTHING)
    assert vocabulary.center == (0.0,)
    encoded = vocabulary.encode(coded(("lab", 3, 1e9), ("lab", 2, -1e9), ("lab", 1, np.inf)))
    assert encoded is not None
    assert encoded["values"].tolist() == [5.0, -5.0, 0.0]
    assert encoded["has_value"].tolist() == [True, True, False]


def test_unseen_code_is_zero_and_says_nothing_by_its_value() -> None:
    vocabulary = CodeVocabulary.fit([coded(("a", 1, 5.0))], NOTHING, min_count=1)
    encoded = vocabulary.encode(coded(("new", 1, 3.0)))
    assert encoded is not None
    assert (encoded["codes"].tolist(), encoded["values"].tolist()) == ([0], [0.0])
    assert encoded["has_value"].tolist() == [False]
    assert vocabulary.encode(Record()) is None


LONG = coded(("sex", 0, NAN), ("age", 0, 60.0), *((f"e{i}", 10.0 - i, NAN) for i in range(6)))


def kept_codes(record: Record, **options: Any) -> list[str]:
    vocabulary = CodeVocabulary.fit([record], NOTHING, min_count=1, **options)
    encoded = vocabulary.encode(record)
    assert encoded is not None
    return ["?" if number == 0 else vocabulary.codes[number - 1] for number in encoded["codes"].tolist()]


def test_too_many_events_keep_the_static_facts_and_the_newest() -> None:
    assert kept_codes(LONG, max_events=4) == ["sex", "age", "e4", "e5"]
    assert kept_codes(LONG, max_events=8) == ["sex", "age", "e0", "e1", "e2", "e3", "e4", "e5"]


def test_static_facts_take_at_most_half_the_places() -> None:
    assert kept_codes(LONG, max_events=2) == ["sex", "e5"]
    assert kept_codes(LONG, max_events=1) == ["e5"]


@given(st.integers(1, 12), st.integers(0, 6), st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_newest_event_is_always_kept(most: int, static: int, timed: int) -> None:
    events = [*((f"s{i}", 0.0, NAN) for i in range(static)), *((f"t{i}", 20.0 - i, NAN) for i in range(timed))]
    if not events:
        return
    kept = kept_codes(coded(*events), max_events=most)
    assert len(kept) == min(most, len(events))
    assert kept == [code for code, _, _ in events if code in kept], "order is kept"
    assert timed == 0 or f"t{timed - 1}" in kept


@pytest.mark.parametrize("kind", ["events", "codes", "images"])
def test_limit_of_nothing_is_refused(kind: str) -> None:
    with pytest.raises(UsageError, match=f"max_{kind} must be at least 1; got 0"):
        {"events": CodeVocabulary, "codes": CodeGraph, "images": ImagePixels}[kind].fit(
            [LONG], NOTHING, **{f"max_{kind}": 0}
        )


def test_bins_keep_the_last_event_of_each_code() -> None:
    # bins of 12 hours before the prediction: days 1.4 and 1.1 share one, 0.9 is in the next
    record = coded(("hr", 1.4, 1.0), ("bp", 1.3, 2.0), ("hr", 1.1, 3.0), ("hr", 0.9, 4.0))
    vocabulary = CodeVocabulary.fit([record], NOTHING, min_count=1, bin_hours=12)
    encoded = vocabulary.encode(record)
    assert encoded is not None
    assert encoded["days"] == pytest.approx([1.3, 1.1, 0.9])
    everything = CodeVocabulary.fit([record], NOTHING, min_count=1).encode(record)
    assert everything is not None
    assert len(everything["days"]) == 4


@pytest.mark.parametrize("hours", [0, -6])
def test_bins_have_a_length(hours: float) -> None:
    with pytest.raises(UsageError, match="bin_hours must be more than 0"):
        CodeVocabulary.fit([LONG], NOTHING, bin_hours=hours)
