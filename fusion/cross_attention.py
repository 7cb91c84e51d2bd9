"""Cross-attention fusion: summaries of each modality read the tokens of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.model import Fused, one_view
from fusion.pooled import Join, mixer
from fusion.tokens import Tokens, present


class CrossAttentionFusion(nn.Module):
    """Learned queries summarise each modality and then read the tokens of all others; an MLP mixes what they found.

    Missing:
        A learned null token is always there to be read, so a patient who has one modality or none needs no special
        case; the queries of an absent modality say nothing.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Jaegle et al., Perceiver, 2021 (learned queries); Tsai et al., Multimodal Transformer for Unaligned
        Multimodal Language Sequences, 2019 (modality-to-modality attention, here from the queries only).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        queries: Annotated[int, Choice(1, 2, 4)] = 2,
        heads: Annotated[int, Choice(1, 2, 4)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, self.queries = tuple(modalities), queries
        count = len(self.modalities)
        self.join = Join(modalities, dim)
        self.null = nn.Parameter(torch.randn(dim) * 0.02)
        self.query = nn.Parameter(torch.randn(count * queries, dim) * 0.02)
        self.norm = nn.LayerNorm(dim)
        self.summarise = Block(dim, heads, dropout)
        self.cross = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm_states = nn.LayerNorm(dim)
        self.mix = mixer(count * (queries * dim + 1), dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, mask, owner = self.join(tokens)
        context = self.norm(torch.cat([values, self.null.to(values.dtype).expand(len(values), 1, -1)], dim=1))
        asker = torch.arange(len(self.modalities), device=values.device).repeat_interleave(self.queries)
        same = asker.unsqueeze(1) == owner.unsqueeze(0)  # (M * queries, T)

        state = self.query.expand(len(values), -1, -1).to(values.dtype)
        state = self.summarise(state, _with_null(mask.unsqueeze(1) & same), context)
        for block in self.cross:
            state = block(state, _with_null(mask.unsqueeze(1) & ~same), context)
        there = torch.stack([present(tokens[name].mask) for name in self.modalities], dim=1).to(values.dtype)
        said = self.norm_states(state) * there.repeat_interleave(self.queries, dim=1).unsqueeze(-1)
        return one_view(self.mix(torch.cat([said.flatten(1), there], dim=1)))


def _with_null(mask: Tensor) -> Tensor:
    """Append the null token, which is always real, on the last axis."""
    return torch.cat([mask, mask.new_ones(*mask.shape[:-1], 1)], dim=-1)
