"""The operations of an AutoFM cell and the merges of its fusion nodes; masks are True = real everywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fusion.autofm.genes import ATTEND, IDENTITY, MIX
from fusion.layers import Attention, masked_softmax
from fusion.tokens import Tokens

Embedded = Mapping[str, Tokens]


class Identity(nn.Module):
    """Leave a modality as it is."""

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:  # noqa: ARG002 - all operations are called alike
        """Return the values as they are. Shape: (B, T, D) -> (B, T, D)."""
        return tokens.values


class FeedForwardStep(nn.Module):
    """Two layers with a residual, normalised afterwards."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:  # noqa: ARG002
        """Change each token by itself. Shape: (B, T, D) -> (B, T, D)."""
        return self.norm(tokens.values + self.layers(tokens.values))


class ConvolutionStep(nn.Module):
    """A convolution over three neighbouring tokens, without a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv1d(dim, dim, 3, padding=1), nn.LayerNorm(dim)

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:  # noqa: ARG002
        """Mix neighbours. Shape: (B, T, D) -> (B, T, D)."""
        return self.norm(self.mix(tokens.values.relu().transpose(1, 2)).transpose(1, 2))


class RecurrentStep(nn.Module):
    """An LSTM's states, without a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.recur = nn.LSTM(dim, dim, batch_first=True)

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:  # noqa: ARG002
        """Read tokens in their order. Shape: (B, T, D) -> (B, T, D)."""
        states: Tensor = self.recur(tokens.values)[0]
        return states


class AttentionStep(nn.Module):
    """Attention to the modality's own tokens or to another modality's embedding, with a residual, then a norm."""

    def __init__(self, dim: int, heads: int, dropout: float, other: str | None = None) -> None:
        super().__init__()
        self.other, self.attention = other, Attention(dim, heads, dropout)
        self.drop, self.norm = nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:
        """Attend; who lacks the other modality keeps what they have. Shape: (B, T, D) -> (B, T, D)."""
        keys = tokens if self.other is None else embedded[self.other]
        return self.norm(tokens.values + self.drop(self.attention(tokens.values, keys.values, keys.mask)))


class MixStep(nn.Module):
    """Two layers over a vector beside another modality's, without a residual."""

    def __init__(self, dim: int, dropout: float, other: str) -> None:
        super().__init__()
        self.other, self.norm = other, nn.LayerNorm(dim)
        self.layers = nn.Sequential(
            nn.Linear(2 * dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout)
        )

    def forward(self, tokens: Tokens, embedded: Embedded) -> Tensor:
        """Mix with the other vector, zeros for who lacks it. Shape: (B, 1, D) -> (B, 1, D)."""
        return self.norm(self.layers(torch.cat([tokens.values, embedded[self.other].values], dim=-1)))


def operation(name: str, dim: int, heads: int, dropout: float) -> nn.Module:
    """Build an operation by the name it has as a gene."""
    if name.startswith(ATTEND):
        return AttentionStep(dim, heads, dropout, name.removeprefix(ATTEND))
    if name.startswith(MIX):
        return MixStep(dim, dropout, name.removeprefix(MIX))
    build: dict[str, Callable[[], nn.Module]] = {
        IDENTITY: Identity,
        "ffn": lambda: FeedForwardStep(dim, dropout),
        "conv": lambda: ConvolutionStep(dim),
        "rnn": lambda: RecurrentStep(dim),
        "attention": lambda: AttentionStep(dim, heads, dropout),
    }
    return build[name]()


class SumMerge(nn.Module):
    """The normalised sum of what a node takes in."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, values: Tensor, shares: Tensor) -> Tensor:
        """Add up. Shape: (B, J, D), (B, J) from 0 to 1 -> (B, D)."""
        return self.norm((values * shares.unsqueeze(-1)).sum(1))


class AttentionMerge(nn.Module):
    """The normalised mean of what a node takes in, weighted by a learned score."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score, self.norm = nn.Linear(dim, 1), nn.LayerNorm(dim)

    def forward(self, values: Tensor, shares: Tensor) -> Tensor:
        """Weigh and add up; a share below 1 lowers a score as it lowers a sum. Shape: (B, J, D), (B, J) -> (B, D)."""
        there = shares > 0
        scores = self.score(values).squeeze(-1) + torch.where(there, shares, 1.0).log()
        return self.norm((values * masked_softmax(scores, there).unsqueeze(-1)).sum(1))


class LayersMerge(nn.Module):
    """Two layers over the sum of what a node takes in, normalised."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim), nn.LayerNorm(dim))

    def forward(self, values: Tensor, shares: Tensor) -> Tensor:
        """Add up and change. Shape: (B, J, D), (B, J) -> (B, D)."""
        changed: Tensor = self.layers((values * shares.unsqueeze(-1)).sum(1))
        return changed


def merge(name: str, dim: int) -> nn.Module:
    """Build a merge by the name it has as a gene."""
    return {"sum": SumMerge, "att": AttentionMerge, "mlp": LayersMerge}[name](dim)
