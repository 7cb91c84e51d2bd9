"""Late fusion: every modality decides for itself, and the decisions of those present are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float
from fusion.model import Fused
from fusion.pooled import Pooled
from fusion.tokens import Tokens


class LateFusion(nn.Module):
    """One view a modality, times a gate in which the modality says how sure it is; absent ones count nothing.

    Logits are sums over the modalities present, as independent evidence adds in log-odds. Neither view nor gate sees a
    second modality, and the gates are not normalised against each other: an interaction (exclusive or) cannot be
    represented. That is the point of a late baseline.

    Missing:
        An absent modality has no say; a patient with no modality is decided by a learned empty view.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, M, D), weights (B, M) from 0 to 1.

    Reference:
        Arevalo et al., Gated Multimodal Units for Information Fusion, 2017 (the gate, here one number a modality).
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    ) -> None:
        super().__init__()
        self.pool = Pooled(modalities, dim)
        self.decide = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim)) for _ in modalities
        )
        self.gate = nn.ModuleList(nn.Linear(dim, 1) for _ in modalities)
        self.empty = nn.Parameter(torch.zeros(len(modalities), dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Give each modality's view and how much it counts, 0 where it is absent."""
        values, has = self.pool(tokens)
        views = torch.stack([decide(values[:, i]) for i, decide in enumerate(self.decide)], dim=1)
        gates = torch.cat([gate(views[:, i]) for i, gate in enumerate(self.gate)], dim=1)
        views = torch.where(has.unsqueeze(-1), views, self.empty.to(views.dtype))
        nothing = ~has.any(1, keepdim=True)
        weights = gates.sigmoid() * has
        return Fused(views, torch.where(nothing, torch.full_like(weights, 1 / has.shape[1]), weights))
