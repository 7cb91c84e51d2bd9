"""Long series of notes: words within chunks, then chunks across notes and time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.notes.chunks import ChunkInputs, NoteChunks
from encoders.notes.reader import WordReader
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class NoteHierarchy(nn.Module):
    """Each chunk of a note becomes one vector; chunks then attend to each other, knowing their note's time and kind.

    Attention is quadratic in chunks and not in words, so dozens of notes are read whole.

    Shape:
        ChunkInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Pappagari et al., Hierarchical Transformers for Long Document Classification, 2019 (from scratch, with the
        continuous time and the kind of each note in place of positions).
    """

    preprocessor: ClassVar[type] = NoteChunks

    def __init__(
        self,
        preprocessor: NoteChunks,
        dim: int,
        *,
        word_layers: Annotated[int, Int(0, 2)] = 0,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        vocabulary = preprocessor.vocabulary
        self.read = WordReader(vocabulary.size, dim, layers=word_layers, heads=heads, dropout=dropout)
        self.kind = nn.Embedding(len(vocabulary.kinds) + 1, dim)
        nn.init.normal_(self.kind.weight, std=0.1)
        self.time, self.drop = TimeEncoding(dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: ChunkInputs) -> Tokens:
        """Encode each patient's notes."""
        mask = inputs.mask
        read = self.read(inputs.ids[mask])  # real chunks only: nothing else is computed or can be seen
        text = read.new_zeros(*mask.shape, read.shape[-1]).masked_scatter(mask.unsqueeze(-1), read)
        values = self.drop(text + self.kind(inputs.kinds * mask) + self.time(inputs.days, mask))
        for block in self.blocks:
            values = block(values, mask)
        return Tokens(self.norm(values), mask)
