"""What one coded event becomes: its code, its value and when it was."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from encoders.time import TimeEncoding


class EventEmbedding(nn.Module):
    """Code embedding + value times a learned direction of that code + continuous time.

    Shape:
        CodeInputs (B, T) -> (B, T, D).

    Reference:
        Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, 2021 (the value direction a feature).
    """

    def __init__(self, vocabulary: CodeVocabulary, dim: int) -> None:
        super().__init__()
        self.code, self.slope = nn.Embedding(vocabulary.size, dim), nn.Embedding(vocabulary.size, dim)
        self.bend = nn.Embedding(vocabulary.size, dim)
        self.valued = nn.Parameter(torch.zeros(dim))  # a value at the median is not the same as none
        self.time = TimeEncoding(dim)
        for table, spread in ((self.code, 0.3), (self.slope, 0.3), (self.bend, 0.1)):
            nn.init.normal_(table.weight, std=spread)

    def forward(self, inputs: CodeInputs) -> Tensor:
        """Embed every event."""
        valued = (inputs.has_value & inputs.mask).unsqueeze(-1)
        values = inputs.values.unsqueeze(-1).masked_fill(~valued, 0.0)
        found = torch.addcmul(self.code(inputs.codes), values, self.slope(inputs.codes))
        found = torch.addcmul(found, values.abs(), self.bend(inputs.codes))
        return found + torch.addcmul(self.time(inputs.days, inputs.mask), valued.to(found.dtype), self.valued)
