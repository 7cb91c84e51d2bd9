"""Stacking: every modality is trained alone, and a logistic regression adds up their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from fusion.component import Float
from fusion.model import Fused, Judge, mean_where
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens


class StackingFusion(nn.Module):
    """Each modality answers alone and learns from its own loss only; the sum weighs answers by learned coefficients.

    The fused loss stops at the answers, so encoders never learn from each other: the honest baseline of joint
    training. Classical stacking fits the coefficients afterwards on held-out logits; here they are fitted along.

    Missing:
        Absent modalities are left out of the sum, and each pattern of availability has its own coefficients, starting
        from an even share, and its own intercept, which alone decides for a patient with nothing.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, M, D), weights (B, M) from 0 to 1; loss
        `modalities_alone`.

    Reference:
        Wolpert, Stacked Generalization, 1992.
    """

    powers: Tensor

    def __init__(
        self, modalities: Sequence[str], dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    ) -> None:
        super().__init__()
        count = len(modalities)
        self.pool = Pooled(modalities, dim)
        self.decide = nn.ModuleList(mixer(dim, dim, dropout) for _ in modalities)
        self.register_buffer("powers", 2 ** torch.arange(count), persistent=False)
        self.coefficients = nn.Parameter(torch.ones(2**count, count))
        self.intercepts = nn.Parameter(torch.zeros(2**count, dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Give each modality's answer, scaled by its coefficient."""
        pooled, has = self.pool(tokens)
        alone = torch.stack([decide(pooled[:, i]) for i, decide in enumerate(self.decide)], dim=1)
        pattern = (has * self.powers).sum(1)
        scale = (self.coefficients[pattern] * has).unsqueeze(-1).to(alone.dtype)
        views = scale * alone.detach() + self.intercepts[pattern].unsqueeze(1).to(alone.dtype)
        there = has | ~has.any(1, keepdim=True)
        weights = there / there.sum(1, keepdim=True)

        def losses(judge: Judge) -> dict[str, Tensor]:
            return {"modalities_alone": has.shape[1] * mean_where(judge(alone), has)}

        return Fused(views, weights.to(alone.dtype), losses)
