"""A bag of coded events: which codes there are and their mean values, without order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Float, Int
from fusion.layers import mean_and_top
from fusion.tokens import Tokens, present


class CodeBag(nn.Module):
    """Mean and maximum of the embedded events, mixed by a small MLP into a few tokens.

    The maximum keeps a rare code visible among hundreds of vital signs.

    Shape:
        CodeInputs (B, T) -> Tokens (B, S, D) with S slots.

    Reference:
        Choi et al., Multi-layer Representation Learning for Medical Concepts (Med2Vec), 2016 (visits as sums of codes).
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        slots: Annotated[int, Int(1, 4)] = 1,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.slots, self.dim = slots, dim
        self.embed = EventEmbedding(preprocessor, dim)
        self.mix = nn.Sequential(
            nn.LayerNorm(2 * dim),
            nn.Dropout(dropout),
            nn.Linear(2 * dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, slots * dim),
        )

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Summarise each patient's events."""
        return self.summarise(self.embedded(inputs))

    def embedded(self, inputs: CodeInputs) -> list[Tokens]:
        """Embed the events. Shape: CodeInputs (B, T) -> one Tokens (B, T, D)."""
        return [Tokens(self.embed(inputs), inputs.mask)]

    def summarise(self, parts: Sequence[Tokens]) -> Tokens:
        """Mix mean and maximum of embedded events. Shape: one Tokens (B, T, D) -> Tokens (B, S, D)."""
        ((values, mask),) = parts
        there = present(mask)
        mixed = self.mix(torch.cat(mean_and_top(values, mask), dim=-1))
        return Tokens(mixed.unflatten(-1, (self.slots, self.dim)), there.unsqueeze(1).expand(-1, self.slots))
