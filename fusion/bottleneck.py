"""Bottleneck fusion: modalities exchange through a few shared tokens only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import nn

from fusion.component import Choice, Float, Int
from fusion.layers import AttentionPool, Block
from fusion.model import Fused, one_view
from fusion.pooled import mean_present
from fusion.tokens import Tokens, clean, present


class BottleneckFusion(nn.Module):
    """Each modality attends to its own tokens and a few bottleneck tokens, which are then averaged over modalities.

    All that crosses from one modality to another passes through the bottleneck: cheap for many tokens, and forced to
    be the essence.

    Missing:
        The bottleneck is averaged over the modalities present; with none it keeps its learned start.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Nagrani et al., Attention Bottlenecks for Multimodal Fusion (MBT), 2021.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        bottlenecks: Annotated[int, Choice(1, 2, 4)] = 4,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, self.bottlenecks = tuple(modalities), bottlenecks
        self.start = nn.Parameter(torch.randn(bottlenecks, dim) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleList(Block(dim, heads, dropout) for _ in self.modalities) for _ in range(layers)
        )
        self.pools = nn.ModuleList(AttentionPool(dim) for _ in self.modalities)
        self.norm_bottleneck, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.out = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        cleaned = [clean(tokens[name]) for name in self.modalities]
        states = [part.values for part in cleaned]
        has = torch.stack([present(part.mask) for part in cleaned], dim=1)
        shared = self.start.to(states[0].dtype).expand(len(has), -1, -1)
        layer: Any
        for layer in self.layers:
            said = []
            for i, (block, part) in enumerate(zip(layer, cleaned, strict=True)):
                mask = torch.cat([part.mask.new_ones(len(has), self.bottlenecks), part.mask], dim=1)
                mixed = block(torch.cat([shared, states[i]], dim=1), mask)
                said.append(mixed[:, : self.bottlenecks])
                states[i] = mixed[:, self.bottlenecks :]
            there = has[:, :, None, None].to(shared.dtype)
            agreed = (torch.stack(said, dim=1) * there).sum(1) / there.sum(1).clamp(min=1)
            shared = torch.where(has.any(1)[:, None, None], agreed, shared)
        pooled = [pool(state, part.mask) for pool, state, part in zip(self.pools, states, cleaned, strict=True)]
        own = self.norm(mean_present(torch.stack(pooled, dim=1), has))
        return one_view(self.out(torch.cat([self.norm_bottleneck(shared.mean(1)), own], dim=-1)))
