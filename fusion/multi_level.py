"""Multi-level fusion: a modality may join early, in the middle and late, as much as it pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from fusion.component import Choice, Float
from fusion.layers import Block, masked_softmax
from fusion.model import Fused, one_view
from fusion.pooled import Join, Pooled, mean_present, mixer
from fusion.tokens import Tokens, clean

_LEVELS = 3


class MultiLevelFusion(nn.Module):
    """Three fusion points: among all tokens, among modality vectors, and a sum at the end; each modality has all three.

    A gate for every modality and level, softmax over the modalities present, lets a modality count twice early and
    late and another in the end only. What MUFASA's evolution found is such an asymmetric mixture; here the gates are
    learned with the weights.

    Missing:
        An absent modality is masked at every level, and its gates pass to those present.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Xu, So, Dai, MUFASA: Multimodal Fusion Architecture Search for Electronic Health Records, 2021.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, count = tuple(modalities), len(modalities)
        self.alone = nn.ModuleList(Block(dim, heads, dropout) for _ in modalities)
        self.join, self.together = Join(modalities, dim), Block(dim, heads, dropout)
        self.pools = nn.ModuleList(Pooled(modalities, dim) for _ in range(2))  # before and after the early level
        self.gates = nn.Parameter(torch.zeros(_LEVELS, count))
        self.middle = mixer(count * (dim + 1), dim, dropout)
        self.late = nn.ModuleList(nn.Linear(dim, dim) for _ in modalities)
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        cleaned = [clean(tokens[name]) for name in self.modalities]
        own = {
            name: Tokens(block(part.values, part.mask), part.mask)
            for name, block, part in zip(self.modalities, self.alone, cleaned, strict=True)
        }
        values, mask, owner = self.join(own)
        mixed = self.together(values, mask)
        early = {name: Tokens(mixed[:, owner == i], mask[:, owner == i]) for i, name in enumerate(self.modalities)}
        apart, has = self.pools[0](own)
        mingled, _ = self.pools[1](early)
        first, second, third = (self._gated(level, has) for level in range(_LEVELS))
        middle = self.middle(torch.cat([(apart * second).flatten(1), has.to(values.dtype)], dim=-1))
        late = torch.stack([late(apart[:, i]) for i, late in enumerate(self.late)], dim=1) * third
        return one_view(self.out(self.norm((mingled * first).sum(1) + middle + mean_present(late, has))))

    def _gated(self, level: int, has: Tensor) -> Tensor:
        """Share of each modality at a level, times how many are present. Shape: (B, M) bool -> (B, M, 1)."""
        share = masked_softmax(self.gates[level].expand(has.shape), has) * has.sum(1, keepdim=True)
        return share.unsqueeze(-1)
