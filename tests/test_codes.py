"""Encoders of coded events by hand: visits, recurrences in time, state spaces, digits, descriptions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.codes import CODES
from encoders.codes.described import DescribedCodes, describe
from encoders.codes.digits import PLACES, DigitCodes, write_digits
from encoders.codes.mamba import SelectiveStateSpace, scan
from encoders.codes.visits import backwards, find_visits, mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from encoders.records import CodeEvents, Knowledge, Record
from experiments.data.pack import pack_records
from fusion import Tokens


def inputs_at(*patients: list[float], codes: list[list[int]] | None = None) -> CodeInputs:
    """Events at so many days before the prediction, code 1 unless told otherwise, padded with junk."""
    longest = max(len(days) for days in patients)
    days = torch.full((len(patients), longest), float("nan"))
    numbers = torch.ones(days.shape, dtype=torch.int64)
    mask = torch.zeros(days.shape, dtype=torch.bool)
    for row, each in enumerate(patients):
        days[row, : len(each)] = torch.tensor(each)
        mask[row, : len(each)] = True
        if codes is not None:
            numbers[row, : len(each)] = torch.tensor(codes[row])
    return CodeInputs(numbers, days, torch.zeros_like(days), torch.zeros_like(mask), mask)


def record(*each: tuple[str, float, float]) -> Record:
    codes, days, values = zip(*each, strict=True)
    return Record(CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32)))


NAN = float("nan")
VOCABULARY = CodeVocabulary(("a", "b", "c"), (0.0,) * 3, (1.0,) * 3)


def build(name: str, dim: int = 8, **params: Any) -> Any:
    torch.manual_seed(0)
    return CODES[name](VOCABULARY, dim, **params).eval()


# --- visits ---


def test_visits_are_cut_at_the_largest_gaps() -> None:
    visits = find_visits(inputs_at([400, 400, 390, 20, 19.5, 1], [5]), most=3)
    assert visits.group[0].tolist() == [0, 0, 0, 1, 1, 2]
    assert visits.mask.tolist() == [[True] * 3, [True, False, False]]
    torch.testing.assert_close(visits.days[0], torch.tensor([1190 / 3, 19.75, 1.0]))
    torch.testing.assert_close(visits.gap[0], torch.tensor([0.0, 1190 / 3 - 19.75, 18.75]))
    assert visits.gap[1].tolist() == [0.0, 0.0, 0.0]


def test_visits_of_hours_are_found_as_those_of_years() -> None:
    years, hours = [[400.0, 390, 20, 19, 1]], [[each / 1000 for each in (400.0, 390, 20, 19, 1)]]
    assert find_visits(inputs_at(*years), 3).group.equal(find_visits(inputs_at(*hours), 3).group)


def test_events_at_one_time_are_one_visit_and_equal_gaps_overflow_into_the_last() -> None:
    assert find_visits(inputs_at([3.0, 3, 3]), most=8).group.tolist() == [[0, 0, 0]]
    assert find_visits(inputs_at([5.0, 4, 3, 2, 1]), most=3).group.tolist() == [[0, 1, 2, 2, 2]]
    assert find_visits(inputs_at([5.0, 4, 3]), most=1).group.tolist() == [[0, 0, 0]]


def test_means_of_visits_by_hand_and_backwards() -> None:
    values = torch.tensor([[[1.0], [3.0], [5.0], [NAN]]])
    mask, group = torch.tensor([[True, True, True, False]]), torch.tensor([[0, 0, 1, 1]])
    means, there = mean_by_visit(values, mask, group, slots=3)
    assert means.squeeze().tolist() == [2.0, 5.0, 0.0]
    assert there.tolist() == [[True, True, False]]
    assert backwards(means, there).squeeze().tolist() == [5.0, 2.0, 0.0]


# --- recurrences ---


def test_retain_is_the_weighted_sum_of_its_visits() -> None:
    model = build("retain", visits=4)
    inputs = inputs_at([300, 200, 100], codes=[[1, 2, 3]])
    events = model.embed(inputs)
    seen: list[Tensor] = []
    model.out.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(inputs)
    newest_first = events.flip(1)
    alpha = model.score(model.read_visits(newest_first)[0].flip(1)).squeeze(-1).softmax(1)
    beta = model.gate(model.read_codes(newest_first)[0].flip(1)).tanh()
    torch.testing.assert_close(seen[0], (alpha.unsqueeze(-1) * beta * events).sum(1))


def test_retain_reads_the_newest_visit_first() -> None:
    model, seen = build("retain", visits=4), []
    model.read_visits.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    inputs = inputs_at([300, 200, 100], codes=[[1, 2, 3]])
    model(inputs)
    torch.testing.assert_close(seen[0], model.embed(inputs).flip(1))


def test_short_term_memory_fades_with_the_gap() -> None:
    """With a gap of e^2 - e days half of the short-term memory is left."""
    model, memories = build("tlstm", visits=4), []
    model.cell.register_forward_pre_hook(lambda _, given: memories.append(given[1][1]))
    after: list[Tensor] = []
    model.cell.register_forward_hook(lambda _, __, result: after.append(result[1]))
    gap = math.e**2 - math.e
    model(inputs_at([gap + 1, 1]))
    short = model.short(after[0]).tanh()
    torch.testing.assert_close(memories[1], after[0] - short + short / 2)


def test_stagenet_master_gates_are_ordered_and_know_the_gap() -> None:
    model = build("stagenet", levels=4, visits=4)
    x, state, memory = torch.randn(2, 8), torch.randn(2, 8), torch.randn(2, 8)
    _, _, soon = model._cell(x, torch.tensor([[0.1], [0.1]]), state, memory)
    _, _, late = model._cell(x, torch.tensor([[9.0], [9.0]]), state, memory)
    assert ((soon > 0) & (soon < 1)).all()
    assert not torch.allclose(soon, late)


# --- state space ---


def test_scan_is_the_recurrence() -> None:
    torch.manual_seed(0)
    decay, entry = torch.rand(2, 13, 3), torch.randn(2, 13, 3)
    state, wanted = torch.zeros(2, 3), []
    for t in range(13):
        state = decay[:, t] * state + entry[:, t]
        wanted.append(state)
    torch.testing.assert_close(scan(decay, entry), torch.stack(wanted, 1))


def test_a_state_space_never_looks_ahead() -> None:
    torch.manual_seed(0)
    layer, x = SelectiveStateSpace(4, 4).eval(), torch.randn(1, 9, 4)
    changed = x.clone()
    changed[:, 6:] += 1
    torch.testing.assert_close(layer(x)[:, :6], layer(changed)[:, :6])
    assert not torch.allclose(layer(x)[:, 6:], layer(changed)[:, 6:])


def test_a_state_space_remembers_beyond_its_convolution() -> None:
    torch.manual_seed(0)
    layer, x = SelectiveStateSpace(4, 4).eval(), torch.randn(1, 30, 4)
    changed = x.clone()
    changed[:, 0] += 1
    assert (layer(x)[:, -1] - layer(changed)[:, -1]).abs().max() > 1e-6


# --- digits ---


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (7.25, "+_____7250"),
        (-120.0, "-___120000"),
        (0.0, "+_____0000"),
        (0.0004, "+_____0000"),
        (98.6, "+____98600"),
        (1e9, "+999999999"),
        (NAN, "__________"),
        (math.inf, "__________"),
    ],
)
def test_digits_by_hand(value: float, written: str) -> None:
    [digits] = write_digits(np.array([value], np.float32))
    signs = {0: "+", 1: "-", 10: "_"}
    text = signs[int(digits[0])] + "".join("_" if digit == 10 else str(digit) for digit in digits[1:])
    assert (len(text), text) == (PLACES, written)


def test_digits_need_no_scale() -> None:
    preprocessor = DigitCodes.fit([record(("x", 1, 5.0)), record(("x", 1, 5.0))], Knowledge())
    encoded = preprocessor.encode(record(("x", 1, 480.0), ("never", 1, 2.0)))
    assert encoded is not None
    assert encoded["digits"][0, 4:7].tolist() == [4, 8, 0]
    assert encoded["digits"][1, 6] == 2


# --- descriptions ---

HEART = Knowledge(
    (), {"I50.1": "left heart failure", "I50.9": "heart failure unspecified", "S82.1": "fracture of tibia"}
)


def described() -> DescribedCodes:
    return DescribedCodes.fit([record(("I50.1", 1, NAN), ("S82.1", 2, 3.0))] * 2, HEART)


def test_described_codes_hold_the_dictionary_but_learn_from_training_codes_only() -> None:
    preprocessor = described()
    assert preprocessor.vocabulary.codes == ("I50.1", "S82.1", "I50.9")
    assert preprocessor.learned == 2
    assert preprocessor.words == ("failure", "fracture", "heart", "left", "of", "tibia")
    first, unseen = preprocessor.words_of[1], preprocessor.words_of[3]
    assert set(first) & set(unseen) == {1, 3}, "heart and failure are the same words in both"
    assert max(unseen) > len(preprocessor.words), "'unspecified' is hashed"


def test_a_value_without_a_learned_scale_is_left_out() -> None:
    encoded = described().encode(record(("I50.9", 1, 77.0), ("S82.1", 1, 3.0)))
    assert encoded is not None
    assert encoded["codes"].tolist() == [3, 2]
    assert encoded["has_value"].tolist() == [False, True]
    assert encoded["values"].tolist() == [0.0, 0.0]


def test_an_unseen_code_is_near_the_codes_that_share_its_words() -> None:
    torch.manual_seed(0)
    model = CODES["descriptions"](described(), 32).eval()
    known, broken, unseen, nothing = model.describe(torch.tensor([1, 2, 3, 0]))
    near, far = (torch.cosine_similarity(unseen, other, dim=0) for other in (known, broken))
    assert near > far
    assert nothing.isfinite().all()


def test_codes_without_description_are_spelled() -> None:
    assert describe("ICD10CM//I50.12", {}) == ["icd10cm", "i", "i50", "i50.12"]
    assert describe("ICD10CM//I50.12", {"ICD10CM//I50.12": "Heart failure, 2"}) == ["heart", "failure", "2"]
    assert describe("GENDER", {}) == ["gender"]


def test_described_inputs_follow_the_encoder() -> None:
    preprocessor = described()
    packed, index = pack_records(preprocessor, [record(("I50.9", 1, NAN)), Record()])
    tokens = CODES["descriptions"](preprocessor, 8).eval()(preprocessor.collate(packed, index))
    assert isinstance(tokens, Tokens)
    assert tokens.mask.tolist() == [[True], [False]]
