"""Sum fusion: modalities are brought into one space and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mean_present
from fusion.tokens import Tokens


class SumFusion(nn.Module):
    """Project each pooled modality into a common space and take the mean of those present, then an MLP.

    The smallest fusion there is: no weight depends on which modalities stand together.

    Missing:
        The mean is over the modalities present, so an absent one changes nothing but the number of voices.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Baltrusaitis, Ahuja, Morency, Multimodal Machine Learning: A Survey and Taxonomy, 2017.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1
    ) -> None:
        super().__init__()
        self.pool = Pooled(modalities, dim)
        self.project = nn.ModuleList(nn.Linear(dim, dim) for _ in modalities)
        self.mix = nn.Sequential(nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        projected = torch.stack([project(values[:, i]) for i, project in enumerate(self.project)], dim=1)
        return one_view(self.mix(mean_present(projected, has)))
