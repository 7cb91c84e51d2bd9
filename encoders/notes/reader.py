"""One vector a piece of text: words from scratch, mixed with their neighbours and pooled."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from fusion.layers import AttentionPool, Block


class WordReader(nn.Module):
    """Embeds words, mixes each with its neighbours by a convolution and `layers` transformer blocks, and pools them.

    The convolution gives local order, so there are no position embeddings; 0 is padding.

    Shape:
        ids (N, L) int64 -> (N, D); a piece without words gives zeros.

    Reference:
        Yang et al., Hierarchical Attention Networks for Document Classification, 2016 (the word level, here with a
        convolution in place of the GRU).
    """

    def __init__(self, size: int, dim: int, *, layers: int = 0, heads: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Embedding(size, dim)
        nn.init.normal_(self.embed.weight, std=0.3)
        self.local = nn.Conv1d(dim, dim, kernel_size=5, padding=2)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.pool = AttentionPool(dim)

    def forward(self, ids: Tensor) -> Tensor:
        """Read pieces of text."""
        mask = ids > 0
        longest = max(1, int(mask.sum(1).max()) if len(ids) else 1)
        ids, mask = ids[:, :longest], mask[:, :longest]
        words = self.embed(ids).masked_fill(~mask.unsqueeze(-1), 0.0)
        values = self.drop(words + functional.gelu(self.local(words.transpose(1, 2)).transpose(1, 2)))
        for block in self.blocks:
            values = block(values, mask)
        return self.pool(values, mask)
