"""The one attention implementation, pooling and transformer blocks; masks are True = real everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.component import UsageError

_FAR = 1e4  # below all values, and a number in half precision too


class Attention(nn.Module):
    """Multi-head scaled dot-product attention; a query with no real key gets zeros, never NaN.

    Dropout acts on what attention returns, not on its weights: weights that must be written down to be dropped keep
    torch's fused kernels away, which on the CPU take half the time.

    Shape:
        queries (B, Q, D), keys (B, T, D), mask (B, T) or (B, Q, T) bool -> (B, Q, D).

    Raises:
        UsageError: dim is not divisible by heads.

    Reference:
        Vaswani et al., Attention Is All You Need, 2017.
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise UsageError(f"dim ({dim}) must be divisible by heads ({heads})")
        self.heads, self.drop = heads, nn.Dropout(dropout)
        self.query, self.key_value, self.out = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )

    def forward(self, queries: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attend from queries to the real keys."""
        query = self._split(self.query(queries))
        key, value = (self._split(part) for part in self.key_value(keys).chunk(2, dim=-1))
        allowed = (mask.unsqueeze(1) if mask.dim() == 2 else mask).unsqueeze(1)  # (B, 1, 1 or Q, T)
        anything = allowed.any(-1, keepdim=True)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed | ~anything)
        mixed = mixed.masked_fill(~anything, 0.0)
        return self.drop(self.out(mixed.transpose(1, 2).flatten(2)) * anything.squeeze(1))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers with GELU between, four times as wide inside. Shape: (..., D) -> (..., D)."""

    def __init__(self, dim: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(dim, 4 * dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * dim, dim),
            nn.Dropout(dropout),
        )


class Block(nn.Module):
    """Pre-norm transformer block: attention, then feed-forward, each with a residual.

    Without a context it is self-attention.

    Shape:
        x (B, Q, D), mask (B, T) or (B, Q, T), context (B, T, D) or None -> (B, Q, D).
    """

    def __init__(self, dim: int, heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_queries, self.norm_out = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention, self.feed_forward = Attention(dim, heads, dropout), FeedForward(dim, dropout)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Mix the real positions of the context, or of x itself, into x."""
        queries = self.norm_queries(x)
        x = x + self.attention(queries, queries if context is None else context, mask)
        return x + self.feed_forward(self.norm_out(x))


class AttentionPool(nn.Module):
    """Mean of the tokens weighted by a learned score; zeros for a row without tokens.

    Shape:
        values (B, T, D), mask (B, T) -> (B, D).

    Reference:
        Ilse et al., Attention-based Deep Multiple Instance Learning, 2018 (here without the tanh layer).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1, bias=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool the real tokens of each row."""
        weights = masked_softmax(self.score(values).squeeze(-1), mask)
        return torch.einsum("bt,btd->bd", weights, values)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last axis among real entries; all zeros where there is none. Shape: (..., T) twice."""
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
    return weights.masked_fill(~mask, 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real tokens; zeros for a row without any. Shape: (B, T, D), (B, T) -> (B, D)."""
    kept = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def mean_and_top(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum of the real tokens, for values that are finite also behind the mask; zeros where none is real.

    Products and sums in place of masked copies, and a maximum that remembers where it was: a third of the time of
    `masked_mean` and `amax`, backward included.

    Shape:
        values (B, T, D), mask (B, T) bool -> twice (B, D).
    """
    real = mask.to(values.dtype)
    share = real / real.sum(1, keepdim=True).clamp(min=1)
    mean = torch.bmm(share.unsqueeze(1), values).squeeze(1)
    if not values.shape[1]:
        return mean, torch.zeros_like(mean)
    top = (values + ((real - 1) * _FAR).unsqueeze(-1)).max(1).values
    return mean, top.masked_fill(~mask.any(1, keepdim=True), 0.0)
