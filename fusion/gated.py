"""Gated fusion: every modality has a gate that all of them set together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float
from fusion.layers import masked_softmax
from fusion.model import Fused
from fusion.pooled import Pooled
from fusion.tokens import Tokens


class GatedFusion(nn.Module):
    """Gated multimodal unit: z = sum of g_m tanh(W_m x_m), with gates g that see all modalities at once.

    The head is linear, so one view a modality weighted by its gate is the same as the unit, and the gates explain.
    The gates are linear too: of two modalities' exclusive or they get three cells of four right.

    Missing:
        The gate of an absent modality is shut, and those present share what it would have had; the gates are told
        who is there. A patient with nothing is decided by a learned empty view.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, M, D), weights (B, M) from 0 to 1.

    Reference:
        Arevalo et al., Gated Multimodal Units for Information Fusion, 2017.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        gate: Annotated[str, Choice("softmax", "sigmoid")] = "softmax",
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        count = len(modalities)
        self.kind = gate
        self.pool, self.drop = Pooled(modalities, dim), nn.Dropout(dropout)
        self.project = nn.ModuleList(nn.Linear(dim, dim) for _ in modalities)
        self.gates = nn.Linear(count * (dim + 1), count)
        self.empty = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Give each modality's view and how far its gate is open."""
        values, has = self.pool(tokens)
        values = self.drop(values)
        scores = self.gates(torch.cat([values.flatten(1), has.to(values.dtype)], dim=1))
        weights = masked_softmax(scores, has) if self.kind == "softmax" else scores.sigmoid() * has
        views = torch.stack([project(values[:, i]).tanh() for i, project in enumerate(self.project)], dim=1)
        views = torch.where(has.unsqueeze(-1), views, self.empty.to(views.dtype))
        nothing = ~has.any(1, keepdim=True)
        return Fused(views, torch.where(nothing, torch.full_like(weights, 1 / has.shape[1]), weights))
