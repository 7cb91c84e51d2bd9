"""DescEmb: a code is what its description says."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from encoders.codes.described import DescribedCodes
from encoders.codes.vocabulary import CodeInputs
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class DescriptionTransformer(nn.Module):
    """A GRU reads the words of each code's description into its vector; events then attend to each other.

    There is no table of codes, so an unseen code has the vector of its words. Only the distinct codes of a batch are
    read.

    Shape:
        CodeInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Hur et al., Unifying Heterogeneous Electronic Health Records Systems via Text-Based Code Embedding (DescEmb),
        2022 (values scale a direction that is read from the text too).
    """

    preprocessor: ClassVar[type] = DescribedCodes
    words_of: Tensor
    lengths: Tensor

    def __init__(
        self,
        preprocessor: DescribedCodes,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        longest = max(1, *(len(row) for row in preprocessor.words_of))
        padded = [[*row, *[0] * (longest - len(row))] for row in preprocessor.words_of]
        self.register_buffer("words_of", torch.tensor(padded), persistent=False)
        self.register_buffer("lengths", torch.tensor([len(row) for row in preprocessor.words_of]), persistent=False)
        self.words = nn.Embedding(preprocessor.size, dim)
        nn.init.normal_(self.words.weight, std=0.3)
        self.read = nn.GRU(dim, dim, batch_first=True)
        self.slope, self.bend = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.time, self.drop = TimeEncoding(dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Encode each patient's events."""
        unique, place = inputs.codes.unique(return_inverse=True)
        code = self.describe(unique)
        valued = (inputs.has_value & inputs.mask).unsqueeze(-1)
        number = inputs.values.unsqueeze(-1).masked_fill(~valued, 0.0)
        worth = number * self.slope(code)[place] + number.abs() * self.bend(code)[place]
        values = self.drop(code[place] + worth + self.time(inputs.days, inputs.mask))
        for block in self.blocks:
            values = block(values, inputs.mask)
        return Tokens(self.norm(values), inputs.mask)

    def describe(self, codes: Tensor) -> Tensor:
        """Read the descriptions of codes. Shape: (N,) int64 -> (N, D)."""
        lengths = self.lengths[codes]
        states, _ = self.read(self.words(self.words_of[codes]))
        last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)
