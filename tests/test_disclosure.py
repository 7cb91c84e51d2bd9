"""Small counts: what is shown beside them never gives them away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.tasks.disclosure import BELOW, HIDDEN, MANY, shown_flow, shown_parts, shown_positives

MOST = 60  # no count that is tried is larger


def flow(start: int, left_out: Sequence[int], patients: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return the steps from some rows to those left, each row a patient unless said otherwise."""
    steps: list[dict[str, Any]] = [{"step": "all", "n": start, "patients": start}]
    for place, number in enumerate(left_out):
        rows = steps[-1]["n"] - number
        who = rows if patients is None else patients[place]
        steps.append({"step": f"step {place}", "n": rows, "patients": who, "left_out": number})
    return steps


def test_a_small_step_is_put_together_with_the_next() -> None:
    told = shown_flow(flow(136, [6, 20, 0]))
    assert [step["n"] for step in told] == ["136", HIDDEN, "110", "110"]
    assert [step.get("left_out") for step in told] == [None, BELOW, "26", "0"]
    told = shown_flow(flow(136, [20, 6]))
    assert [step["n"] for step in told] == ["136", HIDDEN, "110"]
    assert [step.get("left_out") for step in told] == [None, BELOW, "26"]


def test_where_few_are_left_out_in_all_the_first_count_is_a_range() -> None:
    told = shown_flow(flow(103, [0, 3, 0]))
    assert [step["n"] for step in told] == ["101 to 109", "101 to 109", "100", "100"]
    assert [step.get("left_out") for step in told] == [None, "0", "<10", "0"]
    told = shown_flow(flow(100, [95]))
    assert [step["n"] for step in told] == ["100", "<10"]
    assert told[1]["left_out"] == HIDDEN


def test_few_patients_are_no_less_few_for_having_many_rows() -> None:
    told = shown_flow(flow(50, [12, 12], patients=[47, 20]))
    assert [(step["n"], step["patients"]) for step in told] == [("50", "50"), (HIDDEN, HIDDEN), ("26", "20")]


def test_nothing_is_hidden_without_need() -> None:
    steps = flow(100, [10, 0, 40])
    told = shown_flow([*steps, {"step": "predicted", "n": 50, "patients": 50, "positive": 20}])
    assert [step["n"] for step in told] == ["100", "90", "90", "50", "50"]
    assert [step.get("left_out") for step in told] == [None, "10", "0", "40", None]
    assert told[-1]["positive"] == "20"


def test_predictions_of_a_stay_begin_a_flow_of_their_own() -> None:
    steps = [*flow(40, [10]), {"step": "hourly", "n": 700, "patients": 30}]
    told = shown_flow([*steps, {"step": "seen", "n": 650, "patients": 29, "left_out": 50}])
    assert [step["n"] for step in told] == ["40", "30", "700", "650"]
    assert [step["patients"] for step in told] == ["40", "30", "30 to 38", "29"]


def readings(text: str, most: int = MOST) -> set[int]:
    """Return every count that a text may stand for."""
    if text == "<10":
        return set(range(1, 10))
    if text == MANY:
        return set(range(10, most + 1))
    if " to " in text:
        low, high = map(int, text.split(" to "))
        return set(range(low, high + 1))
    if text.startswith(">"):
        return set(range(int(text[1:]) + 1, most + 1))
    return set(range(most + 1)) if text in (HIDDEN, "") else {int(text)}


def flows(told: Sequence[dict[str, str]]) -> Iterator[tuple[int, ...]]:
    """Yield every row of counts that agrees with what is told: each is the one before without those left out."""

    def longer(before: tuple[int, ...], waiting: int) -> Iterator[tuple[int, ...]]:
        if len(before) == len(told):
            if not waiting:
                yield before
            return
        step = told[len(before)]
        for count in sorted(readings(step["n"])) if not before else range(before[-1] + 1):
            left = before[-1] - count if before else 0
            text = step.get("left_out", "0")
            if count not in readings(step["n"]):
                continue
            if text == BELOW:
                if left:
                    yield from longer((*before, count), waiting + left)
            elif text == "0":
                if not left:
                    yield from longer((*before, count), waiting)
            elif left + waiting in readings(text):
                yield from longer((*before, count), 0)

    return longer((), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 40), st.lists(st.integers(0, 14), min_size=1, max_size=3))
def test_nobody_can_compute_how_few_a_step_left_out(start: int, left_out: list[int]) -> None:
    """All flows are tried that agree with what is told; where a step left out 1 to 9, it might be another number."""
    kept: list[int] = []
    for number in left_out:
        kept.append(min(number, start - sum(kept)))
    told = [{key: text for key, text in step.items() if key != "patients"} for step in shown_flow(flow(start, kept))]
    possible = list(flows(told))
    truth = [start]
    for number in kept:
        truth.append(truth[-1] - number)
    assert tuple(truth) in possible
    for place, number in enumerate(kept, 1):
        if 0 < number < 10:
            assert len({each[place - 1] - each[place] for each in possible}) > 1, told
    for place, count in enumerate(truth):
        if 0 < count < 10:
            assert len({each[place] for each in possible}) > 1, told


def test_one_small_part_takes_another_with_it() -> None:
    assert shown_parts([3, 20, 40]) == ["<10", MANY, "40"]
    assert shown_parts([3, 4, 40]) == ["<10", "<10", "40"]
    assert shown_parts([1, 1, 40]) == ["<10", "<10", MANY]  # two of them are one each: the sum says it
    assert shown_parts([9, 9, 40]) == ["<10", "<10", MANY]
    assert shown_parts([1, 10]) == [HIDDEN, HIDDEN]  # of 11 rows, ten or more and one or more are 10 and 1
    assert shown_parts([4, 0]) == ["<10", "0"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=2, max_size=4))
def test_nobody_can_compute_a_small_part(counts: list[int]) -> None:
    total, told = sum(counts), shown_parts(counts)
    if total < 10:
        return  # then the sum is not shown either
    choices = [sorted(readings(text, total)) for text in told[:-1]]
    last = readings(told[-1], total)
    possible = [(*each, total - sum(each)) for each in product(*choices) if total - sum(each) in last]
    assert tuple(counts) in possible
    for place, count in enumerate(counts):
        if 0 < count < 10:
            assert len({each[place] for each in possible}) > 1, told


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 22), st.integers(0, 22)), min_size=2, max_size=3))
def test_nobody_can_compute_few_positives(parts: list[tuple[int, int]]) -> None:
    """Nor few negatives, where rows and positives of all parts together are known."""
    rows = [sum(each) for each in parts]
    positives = [each[0] for each in parts]
    texts = shown_parts(rows)
    told = shown_positives(positives, rows, texts)
    exact = [text == f"{count:,}" for text, count in zip(texts, rows, strict=True)]
    choices = [sorted(readings(text, count)) for text, count in zip(told, rows, strict=True)]
    possible = [each for each in product(*choices) if sum(each) == sum(positives)]
    assert tuple(positives) in possible
    for place, (positive, negative) in enumerate(parts):
        small = 0 < positive < 10 or 0 < negative < 10
        if small and exact[place] and min(sum(positives), sum(rows) - sum(positives)) >= 10:
            assert len({each[place] for each in possible}) > 1, (told, texts)
