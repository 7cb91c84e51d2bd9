"""What most fusions start from: one vector a modality, or all tokens in one sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fusion.layers import AttentionPool
from fusion.tokens import Tokens, clean, present


class Pooled(nn.Module):
    """Attention-pool and normalise each modality; zeros where it is absent.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> values (B, M, D), has (B, M) bool.
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pools = nn.ModuleDict({name: AttentionPool(dim) for name in self.modalities})
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in self.modalities})

    def forward(self, tokens: Mapping[str, Tokens]) -> tuple[Tensor, Tensor]:
        """Pool every modality of each patient."""
        cleaned = {name: clean(tokens[name]) for name in self.modalities}
        has = torch.stack([present(cleaned[name].mask) for name in self.modalities], dim=1)
        pooled = [self.norms[name](self.pools[name](*cleaned[name])) for name in self.modalities]
        return torch.stack(pooled, dim=1) * has.unsqueeze(-1), has


class Joined(NamedTuple):
    """All tokens of all modalities side by side.

    Shape:
        values (B, T, D); mask (B, T) bool; owner (T,) int64, the place of each token's modality.
    """

    values: Tensor
    mask: Tensor
    owner: Tensor


class Join(nn.Module):
    """Lay the tokens of all modalities side by side, each with a learned vector that says which modality it is.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Joined (B, sum of T_m, D).
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.kind = nn.Parameter(torch.randn(len(self.modalities), dim) * 0.02)

    def forward(self, tokens: Mapping[str, Tokens]) -> Joined:
        """Join the tokens of each patient."""
        cleaned = [clean(tokens[name]) for name in self.modalities]
        values = torch.cat([part.values + self.kind[i] for i, part in enumerate(cleaned)], dim=1)
        mask = torch.cat([part.mask for part in cleaned], dim=1)
        lengths = torch.tensor([part.mask.shape[1] for part in cleaned], device=mask.device)
        owner = torch.arange(len(cleaned), device=mask.device).repeat_interleave(lengths)
        return Joined(values, mask, owner)


def mean_present(values: Tensor, has: Tensor) -> Tensor:
    """Mean over the modalities present; zeros for a patient without any. Shape: (B, M, D), (B, M) -> (B, D)."""
    there = has.unsqueeze(-1).to(values.dtype)
    return (values * there).sum(1) / there.sum(1).clamp(min=1)


def mixer(width: int, dim: int, dropout: float) -> nn.Sequential:
    """Return the MLP that turns what was gathered into one view. Shape: (B, width) -> (B, D)."""
    return nn.Sequential(nn.Linear(width, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim))
