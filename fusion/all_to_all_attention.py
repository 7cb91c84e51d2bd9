"""All-to-all attention: one transformer over the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.model import Fused, one_view
from fusion.pooled import Join
from fusion.tokens import Tokens


class AllToAllAttentionFusion(nn.Module):
    """A [CLS] token and all tokens of all modalities attend to each other; the [CLS] token is the view.

    Missing:
        Tokens of an absent modality are masked; with none at all the [CLS] token reads itself.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Kim, Son, Kim, ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision, 2021.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.join = Join(modalities, dim)
        self.cls = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        joined, mask, _ = self.join(tokens)
        values = torch.cat([self.cls.to(joined.dtype).expand(len(joined), 1, -1), joined], dim=1)
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        for block in self.blocks:
            values = block(values, mask)
        return one_view(self.out(self.norm(values[:, 0])))
