"""FuseMoE: a sparse mixture of experts over whichever modalities there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float
from fusion.experts import Experts, Gate, confident_and_balanced
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mean_present
from fusion.tokens import Tokens


class FuseMoEFusion(nn.Module):
    """Modality vectors go to the experts that a gate picks, one by one (`modality`) or all together (`joint`).

    The regulariser wants each choice sure and all experts used. The published form has further a disjoint router and
    interpolates irregular series, which here is the encoders' work.

    Missing:
        An absent modality is a learned indicator vector of its own in the joint router and is not routed otherwise.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); loss `expert_balance`.

    Reference:
        Han et al., FuseMoE: Mixture-of-Experts Transformers for Fleximodal Fusion, 2024.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        experts: Annotated[int, Choice(4, 8)] = 4,
        top: Annotated[int, Choice(1, 2, 4)] = 2,
        gate: Annotated[str, Choice("laplace", "softmax")] = "laplace",
        router: Annotated[str, Choice("modality", "joint")] = "modality",
        balance: Annotated[float, Float(1e-3, 1e-1, log=True)] = 1e-2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.joint, self.balance, count = router == "joint", balance, len(modalities)
        self.pool = Pooled(modalities, dim)
        self.absent = nn.Parameter(torch.randn(count, dim) * 0.02)
        self.bring = nn.Linear(count * dim, dim)
        self.experts = Experts(dim, experts, top, dropout)
        self.gate = Gate(dim, experts, gate)
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(2 * dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        pooled, has = self.pool(tokens)
        together = self.bring(torch.where(has.unsqueeze(-1), pooled, self.absent.to(pooled.dtype)).flatten(1))
        if self.joint:
            routed, there = together, torch.ones_like(has[:, 0])
            scores = self.gate(routed)
            mixed = routed + self.experts(routed, scores)
        else:
            scores, there = self.gate(pooled), has
            mixed = mean_present(pooled + self.experts(pooled, scores), has)
        view = self.out(torch.cat([self.norm(mixed), together], dim=-1))
        flat, rows = scores.reshape(-1, scores.shape[-1]), there.reshape(-1)
        return one_view(view, lambda _: {"expert_balance": self.balance * confident_and_balanced(flat, rows)})
