"""Low-rank tensor fusion: the products of tensor fusion without forming them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens


class LowRankTensorFusion(nn.Module):
    """Sum over r of the product over modalities of W_m^r [z_m; 1]: the outer product, factorised.

    Missing:
        The factor of an absent modality is a learned constant around one: the rest multiply as before.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Liu et al., Efficient Low-rank Multimodal Fusion with Modality-Specific Factors, 2018.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        rank: Annotated[int, Choice(2, 4, 8)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.rank, self.dim = rank, dim
        self.pool = Pooled(modalities, dim)
        factors = [nn.Linear(dim, rank * dim) for _ in modalities]
        for factor in factors:
            nn.init.ones_(factor.bias)  # a product of factors around one neither vanishes nor explodes
        self.factors = nn.ModuleList(factors)
        self.absent = nn.Parameter(1 + 0.1 * torch.randn(len(modalities), rank, dim))
        self.combine = nn.Parameter(torch.randn(rank) / rank**0.5)
        self.mix = nn.Sequential(nn.LayerNorm(dim), mixer(dim, dim, dropout))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        product = values.new_ones(len(values), self.rank, self.dim)
        for i, factor in enumerate(self.factors):
            found = factor(values[:, i]).unflatten(-1, (self.rank, self.dim))
            product = product * torch.where(has[:, i, None, None], found, self.absent[i].to(found.dtype))
        return one_view(self.mix(torch.einsum("r,brd->bd", self.combine, product)))
