"""Product of experts: each modality is a Gaussian belief, and beliefs multiply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from fusion.component import Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens


class ProductOfExpertsFusion(nn.Module):
    """Each modality says mean and precision of a latent vector; their product with a standard normal prior is fused.

    In training the latent is sampled and the belief kept near the prior with weight `prior`; in prediction the mean
    is taken.

    Missing:
        An absent modality has no precision; a patient with nothing has the prior.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); loss `prior`.

    Reference:
        Wu, Goodman, Multimodal Generative Models for Scalable Weakly-Supervised Learning (MVAE), 2018; for prediction
        with missing modalities: Lee, van der Schaar, A Variational Information Bottleneck Approach to Multi-Omics
        Data Integration (DeepIMV), 2021.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        prior: Annotated[float, Float(1e-4, 1e-1, log=True)] = 1e-3,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.pool = Pooled(modalities, dim)
        self.believe = nn.ModuleList(mixer(dim, 2 * dim, dropout) for _ in modalities)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        pooled, has = self.pool(tokens)
        said = torch.stack([believe(pooled[:, i]) for i, believe in enumerate(self.believe)], dim=1).float()
        mean, spread = said.chunk(2, dim=-1)
        precision = spread.clamp(-6.0, 6.0).exp() * has.unsqueeze(-1)
        total = 1.0 + precision.sum(1)
        centre = (mean * precision).sum(1) / total
        latent = centre
        if self.training:
            latent = centre + torch.randn_like(centre) / total.sqrt()

        def losses(_: object) -> dict[str, Tensor]:
            divergence = (centre.square() + 1 / total - 1 + total.log()).sum(-1) / 2
            return {"prior": self.prior * divergence.mean()}

        return one_view(self.out(latent.to(pooled.dtype)), losses)
