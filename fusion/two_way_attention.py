"""Two-way cross-attention: the tokens of every modality read those of every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fusion.component import Choice, Float
from fusion.layers import Attention, FeedForward
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens, clean


class Exchange(nn.Module):
    """Tokens of each modality read the tokens of each other one, then a feed-forward layer; both with residuals.

    One attention an ordered pair. Where the other modality is absent, nothing is read.

    Shape:
        M Tokens (B, T_m, D) in order -> the same.
    """

    def __init__(self, count: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(count))
        self.reads = nn.ModuleList(
            nn.ModuleDict({str(j): Attention(dim, heads, dropout) for j in range(count) if j != i})
            for i in range(count)
        )
        self.norms_out = nn.ModuleList(nn.LayerNorm(dim) for _ in range(count))
        self.forwards = nn.ModuleList(FeedForward(dim, dropout) for _ in range(count))

    def forward(self, parts: Sequence[Tokens]) -> list[Tokens]:
        """Let every modality read every other."""
        normed = [norm(part.values) for norm, part in zip(self.norms, parts, strict=True)]
        found = []
        for i, part in enumerate(parts):
            values: Tensor = part.values
            reads: Any = self.reads[i]
            for j, read in reads.items():
                values = values + read(normed[i], normed[int(j)], parts[int(j)].mask)
            found.append(Tokens(values + self.forwards[i](self.norms_out[i](values)), part.mask))
        return found


class TwoWayAttentionFusion(nn.Module):
    """Cross-attention between every ordered pair of modalities, token by token, then pool and concatenate.

    Missing:
        Nothing is read from an absent modality; it adds zeros and a zero flag to the concatenation.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Tsai et al., Multimodal Transformer for Unaligned Multimodal Language Sequences (MulT), 2019.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, count = tuple(modalities), len(modalities)
        self.exchange = Exchange(count, dim, heads, dropout)
        self.pool, self.mix = Pooled(modalities, dim), mixer(count * (dim + 1), dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        parts = self.exchange([clean(tokens[name]) for name in self.modalities])
        values, has = self.pool(dict(zip(self.modalities, parts, strict=True)))
        return one_view(self.mix(torch.cat([values.flatten(1), has.to(values.dtype)], dim=-1)))
