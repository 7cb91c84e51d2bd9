"""Early fusion: one vector from all modalities before any decision is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float, Int
from fusion.model import Fused, one_view
from fusion.pooled import Pooled
from fusion.tokens import Tokens


class EarlyFusion(nn.Module):
    """Concatenate the pooled modalities with flags of their presence and mix them in an MLP.

    Missing:
        An absent modality adds zeros and a zero flag, so that the network can tell absence from a zero vector.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Baltrusaitis, Ahuja, Morency, Multimodal Machine Learning: A Survey and Taxonomy, 2017.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.pool = Pooled(modalities, dim)
        width = len(modalities) * (dim + 1)
        self.mix = nn.Sequential()
        for _ in range(layers):
            self.mix.extend([nn.Linear(width, 2 * dim), nn.GELU(), nn.Dropout(dropout)])
            width = 2 * dim
        self.mix.append(nn.Linear(width, dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        return one_view(self.mix(torch.cat([values.flatten(1), has.to(values.dtype)], dim=-1)))
