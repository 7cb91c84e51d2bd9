"""A transformer over coded events with continuous time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class CodeTransformer(nn.Module):
    """Self-attention among all events; order enters through continuous time only, events at one time are a set.

    Shape:
        CodeInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Li et al., BEHRT, 2020 (here with continuous time instead of position and age embeddings).
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.embed = EventEmbedding(preprocessor, dim)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Encode each patient's events."""
        values = self.drop(self.embed(inputs))
        for block in self.blocks:
            values = block(values, inputs.mask)
        return Tokens(self.norm(values), inputs.mask)
