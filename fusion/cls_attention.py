"""[CLS] attention: each modality's summary reads the tokens of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from fusion.component import Choice, Float
from fusion.layers import Attention
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens, clean


class ClsAttentionFusion(nn.Module):
    """a_m = z_m + sum over n of Attention(z_m, tokens of n): summaries ask, tokens answer; then concatenate.

    The published form has two modalities and one head.

    Missing:
        Nothing is read from an absent modality, and an absent one asks nothing: its place is zeros and a zero flag.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Liu et al., Multimodal Data Matters: Language Model Pre-Training over Structured and Unstructured Electronic
        Health Records (UMM-PLM, later MedM-PLM), 2022.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        heads: Annotated[int, Choice(1, 2, 4)] = 1,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, count = tuple(modalities), len(modalities)
        self.pool = Pooled(modalities, dim)
        self.reads = cross_reads(count, dim, heads, dropout)
        self.mix = mixer(count * (dim + 1), dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        said, has = summaries(self.pool, self.reads, tokens)
        return one_view(self.mix(torch.cat([*said, has.to(said[0].dtype)], dim=-1)))


def cross_reads(count: int, dim: int, heads: int, dropout: float) -> nn.ModuleList:
    """Return one attention for each ordered pair of modalities: of i, those that read each other j."""
    return nn.ModuleList(
        nn.ModuleDict({str(j): Attention(dim, heads, dropout) for j in range(count) if j != i}) for i in range(count)
    )


def summaries(pool: Pooled, reads: Any, tokens: Mapping[str, Tokens]) -> tuple[list[Tensor], Tensor]:
    """Let the summary of each modality read the tokens of the others, and add what it reads to it.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> M tensors (B, D), zeros where absent; has (B, M) bool.
    """
    cleaned = [clean(tokens[name]) for name in pool.modalities]
    values, has = pool(tokens)
    said = []
    for i, mine in enumerate(reads):
        own = values[:, i : i + 1]
        for j, read in mine.items():
            own = own + read(values[:, i : i + 1], cleaned[int(j)].values, cleaned[int(j)].mask)
        said.append(own.squeeze(1) * has[:, i : i + 1])
    return said, has
