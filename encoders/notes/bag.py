"""A bag of words and pairs of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from torch import nn

from encoders.notes.words import NoteInputs, Words
from fusion.component import Choice, Float
from fusion.layers import mean_and_top
from fusion.tokens import Tokens, present


class NoteBag(nn.Module):
    """Mean and maximum of embedded words and hashed word pairs, mixed by a small MLP into one token.

    Pairs are what tells "no fever" from "fever".

    Shape:
        NoteInputs (B, T) -> Tokens (B, 1, D).

    Reference:
        Joulin et al., Bag of Tricks for Efficient Text Classification (fastText), 2017.
    """

    preprocessor: ClassVar[type] = Words

    def __init__(
        self,
        preprocessor: Words,
        dim: int,
        *,
        pairs: Annotated[int, Choice(2048, 4096, 8192)] = 4096,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.pairs, self.words = pairs, preprocessor.size
        self.embed = nn.Embedding(preprocessor.size + pairs, dim)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.mix = nn.Sequential(
            nn.LayerNorm(4 * dim),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, dim),
        )

    def forward(self, inputs: NoteInputs) -> Tokens:
        """Summarise each patient's notes."""
        return self.summarise(self.embedded(inputs))

    def embedded(self, inputs: NoteInputs) -> list[Tokens]:
        """Embed words and pairs of words. Shape: NoteInputs (B, T) -> Tokens (B, T, D) and (B, T - 1, D)."""
        ids, mask = inputs.ids, inputs.mask
        # a multiplicative hash of the ordered pair; the constants are primes
        pair = self.words + (ids[:, :-1] * 1_000_003 + ids[:, 1:] * 7_919) % self.pairs
        return [Tokens(self.embed(ids), mask), Tokens(self.embed(pair), mask[:, :-1] & mask[:, 1:])]

    def summarise(self, parts: Sequence[Tokens]) -> Tokens:
        """Mix means and maxima of words and pairs. Shape: Tokens (B, T, D) and (B, T - 1, D) -> Tokens (B, 1, D)."""
        found = [each for values, mask in parts for each in mean_and_top(values, mask)]
        there = present(parts[0].mask)
        return Tokens(self.mix(torch.cat(found, dim=-1)).unsqueeze(1), there.unsqueeze(1))
