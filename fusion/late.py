"""Late fusion: every modality decides for itself, and the decisions of those present are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float
from fusion.layers import AttentionPool
from fusion.model import Fused
from fusion.tokens import Tokens, clean, present


class LateFusion(nn.Module):
    """One view a modality, times a gate in which the modality says how sure it is; absent ones count nothing.

    Logits are sums over the modalities present, as independent evidence adds in log-odds. Neither view nor gate sees a
    second modality, and the gates are not normalised against each other: an interaction (exclusive or) cannot be
    represented. That is the point of a late baseline. A patient with no modality is decided by a learned empty view.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, M, D), weights (B, M) from 0 to 1.

    Reference:
        Arevalo et al., Gated Multimodal Units for Information Fusion, 2017 (the gate, here one number a modality).
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pools = nn.ModuleDict({name: AttentionPool(dim) for name in self.modalities})
        self.decide = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(dim),
                    nn.Linear(dim, dim),
                    nn.GELU(),
                    nn.Dropout(dropout),
                    nn.Linear(dim, dim),
                )
                for name in self.modalities
            }
        )
        self.gate = nn.ModuleDict({name: nn.Linear(dim, 1) for name in self.modalities})
        self.empty = nn.Parameter(torch.zeros(len(self.modalities), dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Give each modality's view and how much it counts, 0 where it is absent."""
        views, scores, there = [], [], []
        for name in self.modalities:
            values, mask = clean(tokens[name])
            view = self.decide[name](self.pools[name](values, mask))
            views.append(view)
            scores.append(self.gate[name](view).squeeze(-1))
            there.append(present(mask))
        has = torch.stack(there, dim=1)
        stacked = torch.where(has.unsqueeze(-1), torch.stack(views, dim=1), self.empty)
        nothing = ~has.any(1, keepdim=True)
        weights = torch.stack(scores, dim=1).sigmoid() * has
        return Fused(stacked, torch.where(nothing, torch.full_like(weights, 1 / len(self.modalities)), weights))
