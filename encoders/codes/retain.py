"""RETAIN: attention over visits and over what each visit holds, computed in reverse time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.visits import backwards, find_visits, mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Float, Int
from fusion.layers import masked_softmax
from fusion.tokens import Tokens, present


class Retain(nn.Module):
    """c = sum over visits of a_i b_i * v_i, where two GRUs that read the newest visit first give a_i and b_i.

    a is one weight a visit (softmax), b one weight a coordinate (tanh); v is not touched by any recurrence, so each
    event's part in the result can be read off.

    Shape:
        CodeInputs (B, T) -> Tokens (B, 1, D).

    Reference:
        Choi et al., RETAIN: An Interpretable Predictive Model for Healthcare using Reverse Time Attention Mechanism,
        2016 (visits here are cut at the largest gaps between events).
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
        self.read_visits, self.read_codes = (nn.GRU(dim, dim, batch_first=True) for _ in range(2))
        self.score, self.gate = nn.Linear(dim, 1, bias=False), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Summarise each patient's visits."""
        visits = find_visits(inputs, self.visits)
        values, mask = mean_by_visit(self.drop(self.embed(inputs)), inputs.mask, visits.group, visits.mask.shape[1])
        newest_first = backwards(values, mask)
        alpha, _ = self.read_visits(newest_first)
        beta, _ = self.read_codes(newest_first)
        weights = masked_softmax(self.score(backwards(alpha, mask)).squeeze(-1), mask)
        gates = self.gate(backwards(beta, mask)).tanh()
        context = (weights.unsqueeze(-1) * gates * values).sum(1)
        return Tokens(self.out(context).unsqueeze(1), present(mask).unsqueeze(1))
