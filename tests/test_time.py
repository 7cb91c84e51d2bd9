"""Time, and the embedding of an event, against numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_inputs import code_inputs

from encoders.codes import CodeVocabulary
from encoders.codes.embedding import EventEmbedding
from encoders.time import TimeEncoding


def reading_level() -> TimeEncoding:
    time = TimeEncoding(4)
    with torch.no_grad():
        time.mix.weight.zero_()
        time.mix.weight[0, 0] = 1.0
    return time


def when(time: TimeEncoding, days: list[float]) -> torch.Tensor:
    return time(torch.tensor([days]), torch.ones(1, len(days), dtype=torch.bool))


def test_time_is_the_logarithm_of_minutes() -> None:
    level = when(reading_level(), [0.0, 1 / 1440, 7 / 1440])[0, :, 0]
    assert (10 * level).exp().tolist() == pytest.approx([1.0, 2.0, 8.0])


@given(st.lists(st.floats(0, 40_000), min_size=2, max_size=6, unique=True))
@settings(max_examples=25, deadline=None)
def test_time_grows(days: list[float]) -> None:
    level = when(reading_level(), sorted(days))[0, :, 0]
    assert (level.diff() >= 0).all()


def test_time_after_the_prediction_counts_as_the_prediction_time() -> None:
    time = TimeEncoding(4)
    assert when(time, [-3.0]).equal(when(time, [0.0]))


def test_waves_tell_minutes_and_years_apart_alike() -> None:
    angles = TimeEncoding(4).frequencies
    top = float(angles[0]) * np.log1p(100 * 365.25 * 1440)
    assert top == pytest.approx(np.pi), "the slowest wave spans half a turn in a century, so it never repeats"


def test_event_is_code_and_slope_and_bend_and_time() -> None:
    embed = EventEmbedding(CodeVocabulary(("a", "b"), (0.0, 0.0), (1.0, 1.0)), 4)
    embed.valued.data.fill_(0.5)
    valued = [[True, False]]
    found = embed(code_inputs([[-2.0, 0.0]], [[True, True]], codes=[[1, 2]], days=[[3.0, 3.0]], has_value=valued))
    time = when(embed.time, [3.0])[0, 0]
    code, slope, bend = embed.code.weight, embed.slope.weight, embed.bend.weight
    torch.testing.assert_close(found[0, 0], code[1] - 2 * slope[1] + 2 * bend[1] + 0.5 + time)
    torch.testing.assert_close(found[0, 1], code[2] + time)
