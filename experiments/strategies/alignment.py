"""Contrastive alignment: two modalities of one patient are told from those of other patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.layers import AttentionPool
from fusion.tokens import Tokens, clean, present

_TEMPERATURE, _COLDEST = 0.07, 0.01  # at first, and the least it may become


class Alignment(nn.Module):
    """Symmetric InfoNCE between every two modalities, or some pairs, among the patients of a batch who have both.

    The temperature is learned.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> scalar; 0 where no two patients have two modalities.

    Reference:
        Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), 2021; on records
        and images: Zhang et al., Contrastive Learning of Medical Visual Representations (ConVIRT), 2022.
    """

    def __init__(self, modalities: Sequence[str], dim: int, pairs: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pairs = tuple(combinations(self.modalities, 2)) if pairs is None else tuple(pairs)
        self.pools = nn.ModuleList(AttentionPool(dim) for _ in self.modalities)
        self.projections = nn.ModuleList(nn.Linear(dim, dim) for _ in self.modalities)
        self.sharpness = nn.Parameter(torch.tensor(-math.log(_TEMPERATURE)))

    def forward(self, tokens: Mapping[str, Tokens]) -> Tensor:
        """Return the mean loss over pairs of modalities."""
        vectors = self.embed(tokens)
        sharpness = self.sharpness.exp().clamp(max=1 / _COLDEST)
        losses = []
        for one, other in self.pairs:
            (first, has_first), (second, has_second) = vectors[one], vectors[other]
            both = has_first & has_second
            if both.sum() < 2:
                continue
            alike = first[both] @ second[both].T * sharpness
            own = torch.arange(len(alike), device=alike.device)
            losses.append((functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2)
        if not losses:
            return torch.stack([self.sharpness, *(each.sum() for each, _ in vectors.values())]).sum() * 0.0
        return torch.stack(losses).mean()

    def embed(self, tokens: Mapping[str, Tokens]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return a vector of length one a patient, and who has the modality. Shape: of each (B, D) and (B,) bool."""
        found = {}
        for name, pool, project in zip(self.modalities, self.pools, self.projections, strict=True):
            values, mask = clean(tokens[name])
            found[name] = (
                functional.normalize(project(pool(values, mask)).float(), dim=-1, eps=1e-6),
                present(mask),
            )
        return found
