"""Packed rows: laid out, padded and given back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.packed import Packed


def test_pad_lays_rows_out_and_leaves_absent_ones_empty() -> None:
    packed = Packed({"x": torch.tensor([1, 2, 3, 4, 5, 6])}, torch.tensor([0, 2, 2, 6]))
    columns, mask = packed.pad(torch.tensor([2, -1, 0, 1]))
    assert columns["x"].tolist() == [[3, 4, 5, 6], [0, 0, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert mask.sum(1).tolist() == [4, 0, 2, 0]
    assert packed.lengths(torch.tensor([0, 1, 2, -1])).tolist() == [2, 0, 4, 0]


@pytest.mark.parametrize("rows", [[], [-1, -1]], ids=["no rows", "nobody"])
def test_pad_always_has_a_place(rows: list[int]) -> None:
    packed = Packed({"x": torch.zeros(0, 3)}, torch.tensor([0]))
    columns, mask = packed.pad(torch.tensor(rows, dtype=torch.int64))
    assert columns["x"].shape == (len(rows), 1, 3)
    assert mask.shape == (len(rows), 1)
    assert not mask.any()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.data())
@settings(max_examples=25, deadline=None)
def test_pad_gives_back_what_was_packed(lengths: list[int], data: st.DataObject) -> None:
    items = torch.arange(sum(lengths) * 2).reshape(-1, 2)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = data.draw(st.lists(st.integers(-1, len(lengths) - 1), min_size=1, max_size=6))
    columns, mask = Packed({"x": items}, offsets).pad(torch.tensor(rows))
    for place, row in enumerate(rows):
        wanted = items[offsets[row] : offsets[row + 1]] if row >= 0 else items[:0]
        assert columns["x"][place][mask[place]].equal(wanted)
        assert (columns["x"][place][~mask[place]] == 0).all()
        assert mask[place].tolist() == sorted(mask[place].tolist(), reverse=True), "real items come first"
