"""Tensor fusion: products of everything with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float, UsageError
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens

_MOST = 20_000  # entries of the product, which the next layer multiplies by its width


class TensorFusion(nn.Module):
    """Outer product of [z_m; 1] over all modalities: every interaction of every order has a weight of its own.

    Each modality is brought to `rank` numbers first, for the product has (rank + 1) to the power M entries.

    Missing:
        An absent modality is (0, ..., 0, 1): what is left is exactly the tensor of the modalities present.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Raises:
        UsageError: so many modalities that the product has more than 20,000 entries.

    Reference:
        Zadeh et al., Tensor Fusion Network for Multimodal Sentiment Analysis, 2017.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        rank: Annotated[int, Choice(4, 6, 8)] = 6,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        width = (rank + 1) ** len(modalities)
        if width > _MOST:
            raise UsageError(
                f"tensor: rank ({rank}) with {len(modalities)} modalities gives {width} products, at most {_MOST}; "
                "use low_rank_tensor"
            )
        self.pool = Pooled(modalities, dim)
        self.reduce = nn.ModuleList(nn.Linear(dim, rank) for _ in modalities)
        self.mix = mixer(width, dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        product = values.new_ones(len(values), 1)
        for i, reduce in enumerate(self.reduce):
            part = reduce(values[:, i]).tanh() * has[:, i : i + 1]
            part = torch.cat([part, torch.ones_like(part[:, :1])], dim=-1)
            product = torch.einsum("bp,bq->bpq", product, part).flatten(1)
        return one_view(self.mix(product))
