"""A patient's images as a bag of instances: when each was made and its view, and one token out of many."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.time import TimeEncoding
from fusion.layers import masked_softmax
from fusion.tokens import Tokens, clean, present


class GatedAttentionPool(nn.Module):
    """Mean of a bag's instances weighted by a_k = softmax of w (tanh(V h_k) * sigm(U h_k)); zeros for an empty bag.

    Shape:
        values (B, T, D), mask (B, T) -> (B, D).

    Reference:
        Ilse, Tomczak, Welling, Attention-based Deep Multiple Instance Learning, 2018 (the gated attention; here V and
        U have biases).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(dim, dim), nn.Linear(dim, dim)  # V and U of the paper
        self.score = nn.Linear(dim, 1, bias=False)  # softmax would undo a bias

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Pool the real instances of each bag."""
        values, mask = clean(Tokens(values, mask))  # a weight of 0 does not silence NaN
        return torch.einsum("bt,btd->bd", self.weights(values, mask), values)

    def weights(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return how much each instance counts, 1 in all. Shape: (B, T, D), (B, T) -> (B, T)."""
        gated = self.content(values).tanh() * self.gate(values).sigmoid()
        return masked_softmax(self.score(gated).squeeze(-1), mask)


class Instances(nn.Module):
    """Adds time and view to the vectors of images; with `pool` "attention", makes one token a patient of them.

    The views' embeddings start at zero, so that what an image shows comes first.

    Shape:
        Tokens (B, K * S, D) of S places an image, days (B, K), views (B, K) -> Tokens (B, K * S, D) or (B, 1, D).
    """

    def __init__(self, dim: int, views: int, pool: str) -> None:
        super().__init__()
        self.time = TimeEncoding(dim)
        self.view = nn.Embedding(views + 1, dim)
        nn.init.zeros_(self.view.weight)
        self.pool = GatedAttentionPool(dim) if pool == "attention" else None

    def forward(self, tokens: Tokens, days: Tensor, views: Tensor) -> Tokens:
        """Tell images apart by when and how they were made, then pool them if asked for."""
        places = tokens.mask.shape[1] // days.shape[1]
        days, views = (each.repeat_interleave(places, dim=1) for each in (days, views))
        seen = self.view(views.masked_fill(~tokens.mask, 0))
        found = Tokens(tokens.values + self.time(days, tokens.mask) + seen, tokens.mask)
        if self.pool is None:
            return found
        pooled: Tensor = self.pool(*found)
        return Tokens(pooled.unsqueeze(1), present(found.mask).unsqueeze(1))
