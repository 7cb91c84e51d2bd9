"""Contrastive alignment: two modalities of one patient are told from those of other patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.layers import AttentionPool
from fusion.tokens import Tokens, clean, present

_TEMPERATURE = 0.1


class Alignment(nn.Module):
    """Symmetric InfoNCE between every two modalities, among the patients of a batch who have both.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> scalar; 0 where no two patients have two modalities.

    Reference:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021; on records
        and images: Zhang et al., Contrastive Learning of Medical Visual Representations (ConVIRT), 2022.
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pools = nn.ModuleList(AttentionPool(dim) for _ in self.modalities)
        self.projections = nn.ModuleList(nn.Linear(dim, dim) for _ in self.modalities)

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """Return the mean loss over pairs of modalities."""
        vectors, there = [], []
        for name, pool, project in zip(self.modalities, self.pools, self.projections, strict=True):
            values, mask = clean(tokens[name])
            vectors.append(functional.normalize(project(pool(values, mask)).float(), dim=-1, eps=1e-6))
            there.append(present(mask))
        losses = []
        for i, j in combinations(range(len(vectors)), 2):
            both = there[i] & there[j]
            if both.sum() < 2:
                continue
            alike = vectors[i][both] @ vectors[j][both].T / _TEMPERATURE
            own = torch.arange(len(alike), device=alike.device)
            losses.append((functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2)
        return torch.stack(losses).mean() if losses else vectors[0].sum() * 0.0
