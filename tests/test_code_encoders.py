"""Encoders of coded events against numbers by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from toy_inputs import code_inputs, heard_by

from encoders.codes import CodeBag, CodeGRU, CodeInputs, CodeTransformer, CodeVocabulary

FIVE = CodeVocabulary(tuple("abcde"), (0.0,) * 5, (1.0,) * 5)


class Repeat(nn.Module):
    """An embedding that repeats an event's value, so that sums can be done by hand."""

    def forward(self, inputs: CodeInputs) -> Tensor:
        return inputs.values.unsqueeze(-1).expand(-1, -1, 4)


def test_bag_mixes_mean_and_maximum() -> None:
    bag = CodeBag(FIVE, 4, slots=3).eval()
    bag.embed = Repeat()
    inputs = code_inputs([[-1.0, -4.0, 99.0], [2.0, 3.0, 7.0]], [[True, True, False], [True, True, True]])
    heard = heard_by(bag.mix, lambda: bag(inputs))
    assert heard[:, [0, 4]].tolist() == [[-2.5, -1.0], [4.0, 7.0]]
    assert bag(inputs).values.shape == (2, 3, 4)


def test_gru_reads_groups_of_equal_count() -> None:
    gru = CodeGRU(FIVE, 4, steps=2).eval()
    gru.embed, gru.norm = Repeat(), nn.Identity()
    real = [[True] * 5, [True, True, False, False, False], [True, False, False, False, False]]
    inputs = code_inputs([[1.0, 2, 3, 4, 5], [10, 20, 99, 99, 99], [6, 99, 99, 99, 99]], real)
    heard = heard_by(gru.recur, lambda: gru(inputs))
    # five events in two groups: three and two; fewer events than steps stay alone
    assert heard[..., 0].tolist() == [[2.0, 4.5], [10.0, 20.0], [6.0, 0.0]]
    assert gru(inputs).mask.tolist() == [[True, True], [True, True], [True, False]]


def test_gru_looks_back_only() -> None:
    gru = CodeGRU(FIVE, 4, steps=8).eval()
    inputs = code_inputs([[1.0, 2.0, 3.0]], [[True] * 3], codes=[[1, 2, 3]])
    later = inputs._replace(codes=torch.tensor([[1, 2, 5]]))
    one, other = gru(inputs).values, gru(later).values
    assert one[:, :2].equal(other[:, :2])
    assert not one[:, 2].equal(other[:, 2])


def test_events_of_a_transformer_are_a_set() -> None:
    encoder, order = CodeTransformer(FIVE, 4, layers=2).eval(), [2, 0, 1]
    inputs = code_inputs([[1.0, 2.0, 0.0]], [[True] * 3], codes=[[1, 2, 3]], days=[[5.0, 2.0, 0.0]])
    mixed = CodeInputs(*(part[:, order] for part in inputs))
    torch.testing.assert_close(encoder(mixed).values, encoder(inputs).values[:, order])
