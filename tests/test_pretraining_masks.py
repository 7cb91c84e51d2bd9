"""What objectives hide and ask, by hand: only what is hidden is in a loss, and nobody is asked for what is absent."""

from __future__ import annotations

import math

import pytest
import torch
from toy_pretraining import VOCABULARY, WORDS

from encoders.codes import CODES
from encoders.codes.masked import Hidden, MaskedCodes, hide
from encoders.codes.vocabulary import CodeInputs
from encoders.notes.masked import HiddenWords, MaskedWords, hide_words
from encoders.notes.words import NoteInputs
from experiments.pretraining.retrieval import recall_at_one, surprise
from experiments.pretraining.streams import CodePrediction
from experiments.strategies.alignment import Alignment
from fusion import Tokens, UsageError
from fusion.six_way import SixWayPrediction


def events(rows: int = 400, length: int = 6) -> CodeInputs:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 4, (rows, length), generator=generator)
    values = torch.randn(rows, length, generator=generator)
    has_value = codes == 3
    mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1), generator=generator)
    return CodeInputs(codes, torch.rand(rows, length), values * has_value, has_value, mask)


def test_what_is_hidden_is_gone_and_nothing_else() -> None:
    torch.manual_seed(0)
    inputs = events()
    hidden = hide(inputs, 0.3, VOCABULARY.size)
    assert not (hidden.asked & ~inputs.mask).any()
    assert not (hidden.asked & (inputs.codes == 0)).any(), "an unknown code cannot be told"
    assert not (hidden.asked & hidden.undated).any()
    kept = ~hidden.asked
    assert hidden.inputs.codes[kept].equal(inputs.codes[kept])
    assert hidden.inputs.values[kept].equal(inputs.values[kept])
    assert not hidden.inputs.has_value[hidden.asked].any()
    assert not hidden.inputs.values[hidden.asked].any()
    assert not hidden.inputs.days[hidden.undated].any()
    assert hidden.inputs.days[~hidden.undated].equal(inputs.days[~hidden.undated])
    possible = inputs.mask & (inputs.codes != 0)
    assert 0.25 < hidden.asked.sum() / possible.sum() < 0.35
    shown = hidden.inputs.codes[hidden.asked]
    assert 0.7 < (shown == 0).float().mean() < 0.9
    assert (shown == inputs.codes[hidden.asked]).float().mean() > 0.1


def test_only_masked_events_are_in_the_loss() -> None:
    torch.manual_seed(0)
    ask, inputs = MaskedCodes(VOCABULARY, 8, 0.5), events(3)
    asked, undated = torch.zeros(3, 6, dtype=torch.bool), torch.zeros(3, 6, dtype=torch.bool)
    asked[0, 0] = undated[1, 0] = True
    values = torch.randn(3, 6, 8, requires_grad=True)
    losses = ask.ask(values, inputs, Hidden(inputs, asked, undated))
    torch.stack(list(losses.values())).sum().backward()
    assert values.grad is not None
    reached = values.grad.abs().sum(-1) > 0
    assert reached.equal(asked | undated)


def test_the_loss_of_codes_by_hand() -> None:
    ask = MaskedCodes(VOCABULARY, 8, 0.5)
    with torch.no_grad():
        for parameter in ask.parameters():
            parameter.zero_()
    inputs = CodeInputs(
        torch.tensor([[3, 2]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]),
        torch.tensor([[True, False]]), torch.tensor([[True, True]]),
    )  # fmt: skip
    every = torch.tensor([[True, True]])
    losses = ask.ask(torch.zeros(1, 2, 8), inputs, Hidden(inputs, every, torch.tensor([[True, False]])))
    assert losses["code"].item() == pytest.approx(torch.tensor(4.0).log().item()), "four codes are equally likely"
    assert losses["value"].item() == pytest.approx(1.5), "Huber of 2 - 0, of the one event that has a value"
    late = torch.tensor(1441.0).log().item() / 10
    assert losses["time"].item() == pytest.approx(late**2 / 2)


def test_runs_of_words_are_hidden_and_only_they_are_asked() -> None:
    torch.manual_seed(0)
    ids = torch.randint(1, 5, (200, 40))
    mask = torch.arange(40) < torch.randint(1, 41, (200, 1))
    inputs = NoteInputs(ids, torch.ones(200, 40), mask)
    hidden = hide_words(inputs, 0.15)
    assert not (hidden.asked & ~mask).any()
    assert not hidden.inputs.ids[hidden.asked].any()
    assert hidden.inputs.ids[~hidden.asked].equal(ids[~hidden.asked])
    assert 0.08 < hidden.asked[mask].float().mean() < 0.2
    ask = MaskedWords(WORDS, 8, 0.15, 2)
    values = torch.randn(1, 2, 8, requires_grad=True)
    one = NoteInputs(torch.tensor([[3, 4, 5]]), torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool))
    ask.ask(values, one, HiddenWords(one, torch.tensor([[False, False, True]])))["word"].backward()
    assert values.grad is not None
    assert (values.grad.abs().sum(-1) > 0).tolist() == [[False, True]]


def test_nothing_hidden_is_no_loss_and_no_nan() -> None:
    nobody = torch.zeros(2, 3, dtype=torch.bool)
    values = torch.randn(2, 3, 8, requires_grad=True)
    inputs = CodeInputs(nobody.long(), nobody.float(), nobody.float(), nobody, nobody)
    losses = MaskedCodes(VOCABULARY, 8, 0.5).ask(values, inputs, hide(inputs, 0.5, 4))
    assert [each.item() for each in losses.values()] == [0.0, 0.0, 0.0]
    torch.stack(list(losses.values())).sum().backward()
    assert values.grad is not None
    assert not values.grad.any()


def test_an_encoder_without_a_token_an_event_is_refused() -> None:
    ask, inputs = MaskedCodes(VOCABULARY, 8, 0.5), events(3)
    with pytest.raises(UsageError, match="CodeBag gives 1 for 6 events; take transformer or mamba"):
        ask(CODES["bag"](VOCABULARY, 8), inputs)


def tokens(rows: int, has: list[bool], seed: int = 0) -> Tokens:
    values = torch.randn(rows, 3, 8, generator=torch.Generator().manual_seed(seed))
    return Tokens(values.requires_grad_(), torch.tensor(has).unsqueeze(1).expand(rows, 3))


def test_absent_modalities_carry_no_contrastive_loss() -> None:
    torch.manual_seed(0)
    align = Alignment(("codes", "notes"), 8, [("codes", "notes")])
    codes, notes = tokens(4, [True, True, True, False]), tokens(4, [True, True, False, True], 1)
    align({"codes": codes, "notes": notes}).backward()
    assert codes.values.grad is not None
    assert (codes.values.grad.abs().sum((1, 2)) > 0).tolist() == [True, True, False, False]
    alone = align({"codes": codes, "notes": tokens(4, [True, False, False, False])})
    assert alone.item() == 0.0, "one pair has nobody to be told from"


def test_permuting_patients_changes_nothing_and_permuting_notes_between_them_does() -> None:
    torch.manual_seed(0)
    align = Alignment(("codes", "notes"), 8)
    align.projections[1].load_state_dict(align.projections[0].state_dict())
    align.pools[1].load_state_dict(align.pools[0].state_dict())
    values = torch.randn(6, 3, 8)
    mask, order = torch.ones(6, 3, dtype=torch.bool), torch.tensor([3, 1, 5, 0, 4, 2])

    def loss(codes: torch.Tensor, notes: torch.Tensor) -> float:
        found: float = align({"codes": Tokens(codes, mask), "notes": Tokens(notes, mask)}).item()
        return found

    own = loss(values, values)
    assert loss(values[order], values[order]) == pytest.approx(own, rel=1e-5)
    assert loss(values, values[order]) > own + 0.5


def test_only_the_wanted_pairs_are_aligned() -> None:
    torch.manual_seed(0)
    every = {name: tokens(4, [True] * 4, i) for i, name in enumerate(("codes", "notes", "images"))}
    Alignment(tuple(every), 8, [("codes", "notes")])(every).backward()
    assert every["images"].values.grad is None or not every["images"].values.grad.any()
    assert every["codes"].values.grad is not None


def test_six_ways_are_asked_of_those_who_have_both() -> None:
    torch.manual_seed(0)
    predict = SixWayPrediction(8, 2, 3)
    streams = {"diagnoses": tokens(2, [True, False]), "drugs": tokens(2, [True, True], 1)}
    text = tokens(2, [False, True], 2)
    targets = {"diagnoses": torch.ones(2, 2), "drugs": torch.zeros(2, 3)}
    losses = predict(streams, text, targets)
    assert set(losses) == {
        "diagnoses_diagnoses", "diagnoses_drugs", "drugs_diagnoses", "drugs_drugs", "text_diagnoses", "text_drugs",
    }  # fmt: skip
    assert losses["text_diagnoses"].item() == 0.0, "who has notes has no diagnoses"
    assert all(each.item() > 0 for name, each in losses.items() if name != "text_diagnoses")


def test_without_text_nothing_is_read_and_what_is_read_changes_only_its_predictions() -> None:
    torch.manual_seed(0)
    predict = SixWayPrediction(8, 2, 3).eval()
    streams = {"diagnoses": tokens(2, [True, True]), "drugs": tokens(2, [True, True], 1)}
    targets = {"diagnoses": torch.ones(2, 2), "drugs": torch.zeros(2, 3)}
    before = predict(streams, tokens(2, [True, True], 2), targets)
    drugs = {**streams, "drugs": tokens(2, [True, True], 3)}
    after = predict(drugs, tokens(2, [True, True], 2), targets)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"drugs_diagnoses", "drugs_drugs", "text_drugs"}


def test_streams_are_told_by_prefix_and_a_stream_without_codes_is_refused() -> None:
    predict = CodePrediction(VOCABULARY, 8, 0.2, ("ICD",), ("ATC//",))
    assert predict.sizes == {"diagnoses": 1, "drugs": 1}
    assert predict.place.tolist() == [[-1, -1, 0, -1], [-1, 0, -1, -1]]
    with pytest.raises(
        UsageError, match=r"pretrain\.drugs: none of the 4 codes of the training patients starts with X"
    ):
        CodePrediction(VOCABULARY, 8, 0.2, ("ICD",), ("X",))


def test_recall_by_hand() -> None:
    turned = torch.eye(3)[[0, 2, 1]]
    assert recall_at_one(torch.eye(3), torch.eye(3)).value == 1.0
    assert recall_at_one(torch.eye(3), turned).value == pytest.approx(1 / 3)
    assert recall_at_one(torch.ones(4, 2), torch.ones(4, 2)) == (0.25, 4, pytest.approx(math.log(4))), "chance"
    assert recall_at_one(torch.empty(0, 2), torch.empty(0, 2)).patients == 0


def test_surprise_is_that_of_the_best_temperature() -> None:
    near = torch.eye(4) * 0.1 + 0.9  # all alike, and a patient's own a little more
    first, second = torch.eye(4), near
    assert surprise(first, second) < 0.01, "too little sharpness is no surprise"
    assert surprise(first, second) == pytest.approx(surprise(first, second * 7), abs=0.01)
    opposed = -torch.eye(4)
    assert surprise(first, opposed) == pytest.approx(math.log(4)), "never worse than chance"
