"""Timelines: tokens by hand, quantiles of training only, no look ahead, and futures whose odds are known."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy_pretraining import config_of, run

import encoders.codes.timeline as timeline_module
from encoders.codes.futures import future_risk
from encoders.codes.generative import TimelineTransformer, next_event
from encoders.codes.timeline import INTERVALS, Timeline, TimelineInputs, gap, parts
from encoders.records import CodeEvents, Knowledge, Record
from experiments.config import parse_config
from fusion import Tokens, UsageError


def record(*each: tuple[str, float, float]) -> Record:
    codes, days, values = zip(*each, strict=True)
    return Record(CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32)))


NONE = float("nan")
ONE = record(("SEX//F", 0, NONE), ("ICD10CM//E11.9", 400, NONE), ("LAB//a", 2, 5.0), ("ATC//A10BA02", 1.999, NONE))


def test_tokens_by_hand() -> None:
    timeline = Timeline(("x",), {"LAB//a": (1.0, 4.0, 9.0)}, 64)
    assert [tokens for _, tokens in timeline.events(ONE.codes)] == [
        ["SEX//F"],
        ["ICD10CM//E11", "ICD10CM//3-6//9"],
        ["6mt", "6mt", "LAB//a", "Q3"],
        ["ATC//A10", "ATC//4//B", "ATC//SFX//A02"],
    ]
    assert [fixed for fixed, _ in timeline.events(ONE.codes)] == [True, False, False, False]
    assert parts("ICD10PCS//0DT") == ["ICD10PCS//0", "ICD10PCS//D", "ICD10PCS//T"]
    assert parts("ICD10CM//") == ["ICD10CM//"]


def test_the_examples_are_right() -> None:
    assert doctest.testmod(timeline_module).failed == 0


def test_every_gap_has_its_name() -> None:
    starts = [days for _, days in INTERVALS]
    assert len(INTERVALS) == 19
    assert starts == sorted(starts)
    assert [gap(days) for days in starts] == [[name] for name, _ in INTERVALS]
    assert gap(starts[0] * 0.9) == []
    assert gap(100 * 180.0) == ["6mt"] * 100


def test_breaks_are_those_of_the_records_fitted_on() -> None:
    records = [record(("LAB//a", 1, float(value))) for value in range(101)]
    timeline = Timeline.fit(iter(records), Knowledge(), quantiles=4)
    assert timeline.breaks == {"LAB//a": (25.0, 50.0, 75.0)}
    said = timeline.events(record(*[("LAB//a", 1, value) for value in (-9.0, 25.0, 26.0, 999.0)]).codes)
    assert [tokens[-1] for _, tokens in said] == ["Q1", "Q1", "Q2", "Q4"]
    assert Timeline.from_dict(timeline.to_dict()) == timeline


def test_too_long_a_record_keeps_static_facts_and_whole_recent_events() -> None:
    events = [("SEX//F", 0.0, NONE)] + [("ICD10CM//E11.9", float(9 - i), NONE) for i in range(9)]
    timeline = Timeline.fit([record(*events)] * 2, Knowledge(), max_tokens=8)
    encoded = timeline.encode(record(*events))
    assert encoded is not None
    names = ["?", *timeline.tokens]
    last = ["1d-2d", "ICD10CM//E11", "ICD10CM//3-6//9"]
    assert [names[each] for each in encoded["ids"]] == ["SEX//F", *last, *last]
    assert timeline.encode(Record()) is None


def model(size: int = 12, longest: int = 16) -> TimelineTransformer:
    torch.manual_seed(0)
    return TimelineTransformer(Timeline(tuple(f"T{i}" for i in range(size - 1)), {}, longest), 8).eval()


def test_nothing_later_and_nobody_else_changes_a_token() -> None:
    encoder, ids = model(), torch.randint(1, 12, (3, 10))
    mask = torch.ones(3, 10, dtype=torch.bool)
    before = encoder(TimelineInputs(ids, mask)).values
    later = ids.clone()
    later[0, 6:] = 1
    later[2] = 5
    after = encoder(TimelineInputs(later, mask)).values
    torch.testing.assert_close(after[0, :6], before[0, :6])
    torch.testing.assert_close(after[1], before[1])
    assert not torch.allclose(after[0, 6:], before[0, 6:])


def test_the_loss_by_hand() -> None:
    encoder, ids = model(), torch.tensor([[3, 4, 0, 5, 7]])
    mask = torch.tensor([[True, True, True, True, False]])
    with torch.no_grad():
        logits = encoder.following(encoder(TimelineInputs(ids, mask)).values).log_softmax(-1)
        wanted = -(logits[0, 0, 4] + logits[0, 2, 5]) / 2  # what is unknown or padding is not asked
        assert next_event(encoder, TimelineInputs(ids, mask)).item() == pytest.approx(wanted.item(), rel=1e-5)


class Coin(nn.Module):
    """Draws the event with a chance, and a gap of one or of two days otherwise, one as often as the other."""

    def __init__(self, timeline: Timeline, chance: float) -> None:
        super().__init__()
        self.place = SimpleNamespace(num_embeddings=4)
        self.odds = torch.full((timeline.size,), -torch.inf)
        self.odds[timeline.number["ICD10CM//I50"]] = np.log(chance)
        self.odds[timeline.number["1d-2d"]] = self.odds[timeline.number["2d-4d"]] = np.log((1 - chance) / 2)

    def forward(self, inputs: TimelineInputs) -> Tokens:
        return Tokens(torch.zeros(*inputs.ids.shape, 2), inputs.mask)

    def following(self, values: Tensor) -> Tensor:
        return self.odds.expand(len(values), -1).clone()


def test_futures_have_the_odds_they_are_drawn_with() -> None:
    timeline = Timeline((*(name for name, _ in INTERVALS), "ICD10CM//I50"), {})
    inputs = TimelineInputs(torch.ones(1, 3, dtype=torch.int64), torch.ones(1, 3, dtype=torch.bool))
    risk = future_risk(Coin(timeline, 0.2), timeline, inputs, ["ICD10CM//I50"], horizon_days=2.5, samples=4000)
    day2 = 0.2
    day1 = 0.2 + 0.4 * day2  # a gap of two days leads beyond the horizon
    assert risk.item() == pytest.approx(0.2 + 0.4 * day1 + 0.4 * day2, abs=0.025)
    again = future_risk(Coin(timeline, 0.2), timeline, inputs, ["ICD10CM//I50"], horizon_days=2.5, samples=4000)
    assert torch.equal(risk, again)
    with pytest.raises(UsageError, match="knows no token ICD10CM//Z99"):
        future_risk(Coin(timeline, 0.2), timeline, inputs, ["ICD10CM//Z99"], horizon_days=1)


def test_next_event_is_pre_trained(small_folder: Path, tmp_path: Path) -> None:
    found = run(small_folder, tmp_path, encoders={"codes": "timeline"}, objectives=["next_event"], lr=1e-2)
    assert found.history[-1]["validation_next_event"] < found.history[0]["validation_next_event"]
    with pytest.raises(UsageError, match="needs the encoder codes: timeline"):
        parse_config({**config_of(small_folder, tmp_path).model_dump(), "pretrain": {
            "encoders": {"codes": "transformer"}, "objectives": ["next_event"]}})  # fmt: skip
