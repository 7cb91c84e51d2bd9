"""ShaSpec: features shared by all modalities, and features specific to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.component import Float
from fusion.model import Fused, mean_where, one_view
from fusion.pooled import Pooled, mean_present, mixer
from fusion.tokens import Tokens


class ShaSpecFusion(nn.Module):
    """One encoder shared by all modalities and one specific to each; each modality is shared + W [shared; specific].

    Shared features of two modalities are pulled together; from the specific ones a classifier must tell the modality.

    Missing:
        The shared feature of an absent modality is the mean of the others'; its specific one is zeros.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); losses `shared_agree` and
        `specific_tell`.

    Reference:
        Wang et al., Multi-modal Learning with Missing Modality via Shared-Specific Feature Modelling, 2023.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        agree: Annotated[float, Float(0.01, 0.1, log=True)] = 0.1,
        tell: Annotated[float, Float(0.005, 0.2, log=True)] = 0.02,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.agree, self.tell, count = agree, tell, len(modalities)
        self.pool = Pooled(modalities, dim)
        self.shared = mixer(dim, dim, dropout)
        self.specific = nn.ModuleList(mixer(dim, dim, dropout) for _ in modalities)
        self.classify = nn.Linear(dim, count)
        self.join = nn.Linear(2 * dim, dim)
        self.mix = mixer(count * dim, dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        pooled, has = self.pool(tokens)
        there = has.unsqueeze(-1)
        found = self.shared(pooled)
        stand_in = mean_present(found, has).unsqueeze(1)
        shared = torch.where(there, found, stand_in)
        specific = torch.stack([part(pooled[:, i]) for i, part in enumerate(self.specific)], dim=1) * there
        fused = shared + self.join(torch.cat([shared, specific], dim=-1))

        def losses(_: object) -> dict[str, Tensor]:
            apart = (found.unsqueeze(1) - found.unsqueeze(2)).abs().mean(-1)
            names = torch.arange(has.shape[1], device=has.device).expand(has.shape)
            told = self.classify(specific).float().flatten(0, 1)
            missed = functional.cross_entropy(told, names.flatten(), reduction="none")
            return {
                "shared_agree": self.agree * mean_where(apart, has.unsqueeze(1) & has.unsqueeze(2)),
                "specific_tell": self.tell * mean_where(missed, has.flatten()),
            }

        return one_view(self.mix(fused.flatten(1)), losses)
