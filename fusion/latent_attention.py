"""Latent attention: a small latent array reads one modality after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.model import Fused, one_view
from fusion.tokens import Tokens, clean, present


class LatentAttentionFusion(nn.Module):
    """A learned latent array reads each modality in turn and then itself, `depth` times with the same weights.

    Its cost grows with the number of tokens, not with its square.

    Missing:
        An absent modality is skipped: the latents pass by unchanged.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Jaegle et al., Perceiver: General Perception with Iterative Attention, 2021; Hemker, Simidjievski, Jamnik,
        HEALNet: Multimodal Fusion for Heterogeneous Biomedical Data, 2024.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        depth: Annotated[int, Int(1, 3)] = 2,
        latents: Annotated[int, Choice(4, 8, 16)] = 8,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, self.depth = tuple(modalities), depth
        self.latents = nn.Parameter(torch.randn(latents, dim) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.modalities)
        self.reads = nn.ModuleList(Block(dim, heads, dropout) for _ in self.modalities)
        self.think = Block(dim, heads, dropout)
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        cleaned = [clean(tokens[name]) for name in self.modalities]
        contexts = [norm(part.values) for norm, part in zip(self.norms, cleaned, strict=True)]
        state = self.latents.to(contexts[0].dtype).expand(len(contexts[0]), -1, -1)
        everything = torch.ones(state.shape[:2], dtype=torch.bool, device=state.device)
        for _ in range(self.depth):
            for read, context, part in zip(self.reads, contexts, cleaned, strict=True):
                there = present(part.mask)[:, None, None]
                state = torch.where(there, read(state, part.mask, context), state)
            state = self.think(state, everything)
        return one_view(self.out(self.norm(state).mean(1)))
