"""Interleaved attention: self-attention in each modality and cross-attention between them, by turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import nn

from fusion.component import Choice, Float, Int
from fusion.layers import Attention
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens, clean
from fusion.two_way_attention import Exchange


class InterleavedAttentionFusion(nn.Module):
    """Layers of self-attention within each modality, cross-attention between all, feed-forward; then concatenate.

    The published form takes the last step of each sequence; here tokens are pooled, for they need not be in time.

    Missing:
        Nothing is read from an absent modality; it adds zeros and a zero flag to the concatenation.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Zhang et al., Improving Medical Predictions by Irregular Multimodal Electronic Health Records Modeling (UTDE),
        2023.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, count = tuple(modalities), len(modalities)
        self.norms = nn.ModuleList(nn.ModuleList(nn.LayerNorm(dim) for _ in modalities) for _ in range(layers))
        self.selves = nn.ModuleList(
            nn.ModuleList(Attention(dim, heads, dropout) for _ in modalities) for _ in range(layers)
        )
        self.exchanges = nn.ModuleList(Exchange(count, dim, heads, dropout) for _ in range(layers))
        self.pool, self.mix = Pooled(modalities, dim), mixer(count * (dim + 1), dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        parts = [clean(tokens[name]) for name in self.modalities]
        norms: Any
        selves: Any
        for norms, selves, exchange in zip(self.norms, self.selves, self.exchanges, strict=True):
            for i, (norm, attend) in enumerate(zip(norms, selves, strict=True)):
                values, mask = parts[i]
                normed = norm(values)
                parts[i] = Tokens(values + attend(normed, normed, mask), mask)
            parts = exchange(parts)
        values, has = self.pool(dict(zip(self.modalities, parts, strict=True)))
        return one_view(self.mix(torch.cat([values.flatten(1), has.to(values.dtype)], dim=-1)))
