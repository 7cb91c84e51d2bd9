"""T-LSTM: a recurrent memory whose short-term part fades with the time between visits."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.visits import find_visits, mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Float, Int
from fusion.tokens import Tokens


class TimeAwareLSTM(nn.Module):
    """An LSTM over visits; before each, c becomes (c - s) + s / log(e + gap), where s = tanh(W c) is short-term memory.

    The gap is in days since the visit before; what was remembered for long does not fade.

    Shape:
        CodeInputs (B, T) -> Tokens (B, S, D), a token a visit.

    Reference:
        Baytas et al., Patient Subtyping via Time-Aware LSTM Networks, 2017.
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        visits: Annotated[int, Int(4, 32, log=True)] = 16,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.visits = visits
        self.embed, self.drop = EventEmbedding(preprocessor, dim), nn.Dropout(dropout)
        self.short, self.cell = nn.Linear(dim, dim), nn.LSTMCell(dim, dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Run over each patient's visits, oldest first."""
        visits = find_visits(inputs, self.visits)
        values, mask = mean_by_visit(self.drop(self.embed(inputs)), inputs.mask, visits.group, visits.mask.shape[1])
        fade = 1 / (math.e + visits.gap).log()
        state = memory = torch.zeros_like(values[:, 0])
        states = []
        for i in range(values.shape[1]):
            short = self.short(memory).tanh()
            memory = memory - short + short * fade[:, i : i + 1]
            state, memory = self.cell(values[:, i], (state, memory))
            states.append(state)
        return Tokens(torch.stack(states, dim=1), mask)
