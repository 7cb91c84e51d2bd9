"""DrFuse: what modalities share and what is distinct in each, apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.component import Float
from fusion.layers import masked_softmax
from fusion.model import Fused, Judge, mean_where, one_view
from fusion.pooled import Pooled
from fusion.tokens import Tokens

_MARGIN = 0.1


class DrFuseFusion(nn.Module):
    """Each modality has a shared part and a distinct part; an attention weighs one merged shared and all distinct.

    Shared parts of two modalities are pulled together (Jensen-Shannon divergence of their coordinates as
    probabilities) and merged by log-mean-exp; a modality's two parts are pushed to be orthogonal; every part must
    answer alone, and the attention must rank the parts as well as they answer. The published attention is one a
    label; here it is one a patient.

    Missing:
        The shared part is merged over the modalities present, and absent distinct parts get no attention.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); losses `shared_together`,
        `distinct_apart`, `parts_alone` and `attention_rank`.

    Reference:
        Yao et al., DrFuse: Learning Disentangled Representation for Clinical Multi-Modal Fusion with Missing Modality
        and Modal Inconsistency, 2024.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        together: Annotated[float, Float(0.01, 2.0, log=True)] = 1.0,
        apart: Annotated[float, Float(0.01, 2.0, log=True)] = 0.1,
        alone: Annotated[float, Float(0.01, 2.0, log=True)] = 0.3,
        rank: Annotated[float, Float(0.01, 2.0, log=True)] = 0.1,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.together, self.apart, self.alone, self.rank = together, apart, alone, rank
        self.pool = Pooled(modalities, dim)
        self.shared, self.distinct = (
            nn.ModuleList(
                nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))
                for _ in modalities
            )
            for _ in range(2)
        )
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.empty = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        pooled, has = self.pool(tokens)
        shared = torch.stack([part(pooled[:, i]) for i, part in enumerate(self.shared)], dim=1)
        distinct = torch.stack([part(pooled[:, i]) for i, part in enumerate(self.distinct)], dim=1)
        parts = torch.cat([self._merge(shared, has).unsqueeze(1), distinct], dim=1)
        there = torch.cat([has.any(1, keepdim=True), has], dim=1)
        question = (parts * there.unsqueeze(-1)).sum(1) / there.sum(1, keepdim=True).clamp(min=1)
        scores = torch.einsum("bd,bpd->bp", self.query(question), self.key(parts)) / math.sqrt(parts.shape[-1])
        weights = masked_softmax(scores, there)
        view = torch.einsum("bp,bpd->bd", weights, self.value(parts))
        view = torch.where(has.any(1, keepdim=True), view, self.empty.to(view.dtype))

        def losses(judge: Judge) -> dict[str, Tensor]:
            each = judge(parts)
            return {
                "shared_together": self.together * _divergence(shared, has),
                "distinct_apart": self.apart
                * mean_where(functional.cosine_similarity(shared, distinct, dim=-1, eps=1e-4).abs(), has),
                "parts_alone": self.alone * mean_where(each, there),
                "attention_rank": self.rank * _misranked(weights, each.detach(), there),
            }

        return one_view(view, losses)

    def _merge(self, shared: Tensor, has: Tensor) -> Tensor:
        """Merge shared parts by log-mean-exp over the modalities present. Shape: (B, M, D), (B, M) -> (B, D)."""
        nobody = ~has.any(1, keepdim=True)
        kept = shared.masked_fill(~(has | nobody).unsqueeze(-1), float("-inf"))
        merged = kept.logsumexp(1) - has.sum(1, keepdim=True).clamp(min=1).log()
        return merged.masked_fill(nobody, 0.0)


def _divergence(shared: Tensor, has: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence between coordinates of two present modalities, as Bernoulli probabilities."""
    chances = shared.float().sigmoid().clamp(1e-6, 1 - 1e-6)
    one, other = chances.unsqueeze(2), chances.unsqueeze(1)  # (B, M, 1, D), (B, 1, M, D)
    middle = (one + other) / 2
    entropy = _entropy(middle) - (_entropy(one) + _entropy(other)) / 2
    both = has.unsqueeze(2) & has.unsqueeze(1) & ~torch.eye(has.shape[1], dtype=torch.bool, device=has.device)
    return mean_where(entropy.mean(-1), both)


def _entropy(chance: Tensor) -> Tensor:
    return -(chance * chance.log() + (1 - chance) * (1 - chance).log())


def _misranked(weights: Tensor, loss: Tensor, there: Tensor) -> Tensor:
    """Margin ranking: a part that answers better must have more attention. Shape: three (B, P) -> scalar."""
    better = loss.unsqueeze(2) < loss.unsqueeze(1)
    both = there.unsqueeze(2) & there.unsqueeze(1)
    return mean_where((_MARGIN - weights.unsqueeze(2) + weights.unsqueeze(1)).relu(), better & both)
