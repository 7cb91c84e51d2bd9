"""A transformer over words, trained from scratch."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn
from torch.nn import functional

from encoders.notes.words import NoteInputs, Words
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class NoteTransformer(nn.Module):
    """Words are mixed with their neighbours by a convolution, then attend to each other across all notes.

    The convolution gives local order (negation, numbers with their units) without position embeddings, so the length
    of the text is not bounded by what was seen in training; each word carries the time of its note.

    Shape:
        NoteInputs (B, T) -> Tokens (B, ceil(T / stride), D).

    Reference:
        Vaswani et al., Attention Is All You Need, 2017; the strided convolution in front after Lee et al., Fully
        Character-Level Neural Machine Translation, 2017.
    """

    preprocessor: ClassVar[type] = Words

    def __init__(
        self,
        preprocessor: Words,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        stride: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.embed = nn.Embedding(preprocessor.size, dim)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.local = nn.Conv1d(dim, dim, kernel_size=5, stride=stride, padding=2)
        self.time, self.drop = TimeEncoding(dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: NoteInputs) -> Tokens:
        """Encode each patient's notes."""
        words = self.embed(inputs.ids).masked_fill(~inputs.mask.unsqueeze(-1), 0.0)
        values = functional.gelu(self.local(words.transpose(1, 2)).transpose(1, 2))
        mask = inputs.mask[:, :: self.stride]
        values = self.drop(values + self.time(inputs.days[:, :: self.stride], mask))
        for block in self.blocks:
            values = block(values, mask)
        return Tokens(self.norm(values), mask)
