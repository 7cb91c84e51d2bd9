"""Flex-MoE: a bank of what is missing, and an expert for each pattern of missing modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.component import Choice, Float
from fusion.experts import Experts, Gate
from fusion.layers import Attention
from fusion.model import Fused, mean_where, one_view
from fusion.pooled import Pooled
from fusion.tokens import Tokens


class FlexMoEFusion(nn.Module):
    """Absent modalities are filled in from a learned bank; modalities attend to each other and go through experts.

    Complete patients are routed freely and make the experts general. For an incomplete one the gate is taught to pick
    first the expert of that pattern of availability, with weight `specialise`.

    Missing:
        The bank has one vector for every pair of what was observed and what is missing; a patient with nothing is
        all bank.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); loss `specialisation`.

    Reference:
        Yun et al., Flex-MoE: Modeling Arbitrary Modality Combination via the Flexible Mixture-of-Experts, 2024.
    """

    powers: Tensor

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        experts: Annotated[int, Choice(4, 8, 16)] = 8,
        top: Annotated[int, Choice(2, 4)] = 4,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        specialise: Annotated[float, Float(1e-3, 1e-1, log=True)] = 1e-2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        count = len(modalities)
        self.specialise, self.complete = specialise, 2**count - 1
        self.pool = Pooled(modalities, dim)
        self.register_buffer("powers", 2 ** torch.arange(count), persistent=False)
        self.bank = nn.Parameter(torch.randn(2**count, count, dim) * 0.02)
        self.norm, self.attend = nn.LayerNorm(dim), Attention(dim, heads, dropout)
        self.norm_experts = nn.LayerNorm(dim)
        self.experts, self.gate = Experts(dim, experts, top, dropout), Gate(dim, experts, "softmax")
        self.norm_out, self.out = nn.LayerNorm(count * dim), nn.Linear(count * dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        pooled, has = self.pool(tokens)
        pattern = (has * self.powers).sum(1)
        filled = torch.where(has.unsqueeze(-1), pooled, self.bank[pattern].to(pooled.dtype))
        normed = self.norm(filled)
        filled = filled + self.attend(normed, normed, torch.ones_like(has))
        normed = self.norm_experts(filled)
        scores = self.gate(normed)
        view = self.out(self.norm_out((filled + self.experts(normed, scores)).flatten(1)))

        def losses(_: object) -> dict[str, Tensor]:
            own = (pattern % scores.shape[-1]).unsqueeze(1).expand(scores.shape[:2])  # the expert of the pattern
            missed = functional.cross_entropy(scores.float().flatten(0, 1), own.flatten(), reduction="none")
            incomplete = (pattern != self.complete).unsqueeze(1).expand(scores.shape[:2])
            return {"specialisation": self.specialise * mean_where(missed, incomplete.flatten())}

        return one_view(view, losses)
