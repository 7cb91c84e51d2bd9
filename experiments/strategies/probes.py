"""Probes: a small classifier a modality that says how much each encoder knows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusion.layers import AttentionPool
from fusion.tokens import Tokens, clean, present


class Probes(nn.Module):
    """Pool the tokens of each modality and answer from them alone.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> logits (B, M, K), has (B, M) bool.

    Reference:
        Wang, Tran, Feiszli, What Makes Training Multi-modal Classification Networks Hard?, 2020 (unimodal losses beside
        the joint one).
    """

    def __init__(self, modalities: Sequence[str], dim: int, outputs: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pools = nn.ModuleList(AttentionPool(dim) for _ in self.modalities)
        self.heads = nn.ModuleList(nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, outputs)) for _ in self.modalities)

    def forward(self, tokens: Mapping[str, Tokens], *, learn: bool) -> tuple[Tensor, Tensor]:
        """Answer; with `learn` the encoders learn from it, without they are only read."""
        logits, there = [], []
        for name, pool, head in zip(self.modalities, self.pools, self.heads, strict=True):
            values, mask = clean(tokens[name])
            logits.append(head(pool(values if learn else values.detach(), mask)))
            there.append(present(mask))
        return torch.stack(logits, dim=1), torch.stack(there, dim=1)
