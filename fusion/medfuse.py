"""MedFuse: an LSTM over the modalities a patient has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled
from fusion.tokens import Tokens


class MedFuseFusion(nn.Module):
    """The modality vectors are a short sequence, read by an LSTM in the order listed; its last state is the view.

    Missing:
        An absent modality is no step of the sequence; a patient with nothing has the LSTM's learned start.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Hayat, Geras, Shamout, MedFuse: Multi-modal Fusion with Clinical Time-series Data and Chest X-ray Images,
        2022 (there with encoders trained alone before).
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    ) -> None:
        super().__init__()
        self.pool = Pooled(modalities, dim)
        self.project = nn.ModuleList(nn.Linear(dim, dim) for _ in modalities)
        self.cell = nn.LSTMCell(dim, dim)
        self.start = nn.Parameter(torch.randn(2, dim) * 0.02)
        self.drop, self.out = nn.Dropout(dropout), nn.Linear(dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        state, memory = (each.to(values.dtype).expand(len(values), -1) for each in self.start)
        for i, project in enumerate(self.project):
            new_state, new_memory = self.cell(self.drop(project(values[:, i])), (state, memory))
            there = has[:, i : i + 1]
            state, memory = torch.where(there, new_state, state), torch.where(there, new_memory, memory)
        return one_view(self.out(state))
