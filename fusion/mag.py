"""Multimodal adaptation gate: one modality leads, the others shift it a little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens


class AdaptationGateFusion(nn.Module):
    """The leading modality x is shifted by the gated others: LN(x + a H), H = sum of relu(W_g [x; z_m]) W_h z_m.

    The shift is never longer than `reach` times the leader: a = min(reach |x| / |H|, 1). For records in which one
    modality says most of it; the first one listed leads.

    Missing:
        An absent modality shifts nothing; where the leader itself is absent, the next one present takes its place.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Rahman et al., Integrating Multimodal Information in Large Pretrained Transformers (MAG), 2020; on records:
        Yang, Wu, How to Leverage Multimodal EHR Data for Better Medical Predictions?, 2021.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        reach: Annotated[float, Float(0.1, 1.0)] = 1.0,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.reach, count = reach, len(modalities)
        self.pool = Pooled(modalities, dim)
        self.lead = nn.Parameter(torch.randn(count, dim) * 0.02)
        self.gates = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in modalities[1:])
        self.shifts = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in modalities[1:])
        self.norm, self.mix = nn.LayerNorm(dim), mixer(dim + count, dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        leader = has.to(torch.int64).argmax(1)  # the first one present
        rows = torch.arange(len(values), device=values.device)
        x = values[rows, leader] + self.lead[leader]
        shift = torch.zeros_like(x)
        for i, (gate, move) in enumerate(zip(self.gates, self.shifts, strict=True), start=1):
            other = (has[:, i] & (leader != i)).unsqueeze(-1)
            opened = gate(torch.cat([x, values[:, i]], dim=-1)).relu()
            shift = shift + (opened * move(values[:, i])).masked_fill(~other, 0.0)
        # a patient with one modality has no shift, and the gradient of the length of nothing is not a number
        length = shift.square().sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        scale = (self.reach * x.norm(dim=-1, keepdim=True) / length).clamp(max=1.0)
        return one_view(self.mix(torch.cat([self.norm(x + scale * shift), has.to(x.dtype)], dim=-1)))
