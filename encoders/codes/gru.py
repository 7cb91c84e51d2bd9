"""A recurrent encoder of coded events."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.visits import mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Float, Int
from fusion.tokens import Tokens


class CodeGRU(nn.Module):
    """A GRU over groups of consecutive events, oldest first; every group's state is a token.

    Events are averaged in at most `steps` groups of equal count, because hundreds of steps cost much and add little.

    Shape:
        CodeInputs (B, T) -> Tokens (B, min(T, steps), D).

    Reference:
        Choi et al., Doctor AI, 2016 (a GRU over embedded visits; here over groups of events, with their times).
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 2)] = 1,
        steps: Annotated[int, Int(8, 64, log=True)] = 32,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.embed = EventEmbedding(preprocessor, dim)
        self.norm, self.drop = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.recur = nn.GRU(dim, dim, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Run over each patient's events."""
        counts = inputs.mask.sum(1, keepdim=True)
        size = (counts + self.steps - 1).div(self.steps, rounding_mode="floor").clamp(min=1)  # events a group
        slots = min(self.steps, inputs.mask.shape[1])
        group = (inputs.mask.cumsum(1) - 1).clamp(min=0).div(size, rounding_mode="floor").clamp(max=slots - 1)
        means, mask = mean_by_visit(self.embed(inputs), inputs.mask, group, slots)
        states, _ = self.recur(self.drop(self.norm(means)))
        return Tokens(states, mask)
