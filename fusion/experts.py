"""Sparse mixtures of experts with Laplace and softmax gates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.layers import FeedForward, masked_softmax


class Gate(nn.Module):
    """How fit each expert is for a vector: minus the distance to the expert's centre (laplace), or a dot product.

    Distances cannot grow without bound, so that one expert does not take everything.

    Shape:
        (..., D) -> (..., E).

    Reference:
        Han et al., FuseMoE: Mixture-of-Experts Transformers for Fleximodal Fusion, 2024 (Laplace); Shazeer et al.,
        Outrageously Large Neural Networks, 2017 (softmax).
    """

    def __init__(self, dim: int, experts: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.centres = nn.Parameter(torch.randn(experts, dim) / dim**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Score every expert."""
        if self.kind == "softmax":
            return x @ self.centres.T
        squared = (x.unsqueeze(-2) - self.centres).square().sum(-1)
        return -(squared + 1e-6).sqrt()  # the root of nothing has no gradient


class Experts(nn.Module):
    """Feed-forward experts, the `top` fittest of each vector mixed by softmax of their scores.

    All experts are computed and masked: at these widths that is faster than sending rows about.

    Shape:
        x (..., D), scores (..., E) -> (..., D).
    """

    def __init__(self, dim: int, experts: int, top: int, dropout: float) -> None:
        super().__init__()
        self.experts = nn.ModuleList(FeedForward(dim, dropout) for _ in range(experts))
        self.top = min(top, experts)

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        """Mix the answers of the chosen experts."""
        weights = masked_softmax(scores, self.chosen(scores))
        answers = torch.stack([expert(x) for expert in self.experts], dim=-2)
        return torch.einsum("...e,...ed->...d", weights.to(answers.dtype), answers)

    def chosen(self, scores: Tensor) -> Tensor:
        """Tell which experts each vector goes to. Shape: (..., E) -> (..., E) bool."""
        return torch.zeros_like(scores, dtype=torch.bool).scatter(-1, scores.topk(self.top, dim=-1).indices, True)


def confident_and_balanced(scores: Tensor, there: Tensor) -> Tensor:
    """Entropy of each choice of experts minus that of their mean: low when each is sure and all are used.

    Shape:
        scores (N, E), there (N,) bool -> scalar.

    Reference:
        Han et al., FuseMoE: Mixture-of-Experts Transformers for Fleximodal Fusion, 2024 (entropy regulariser).
    """
    chances = scores.float().softmax(-1)
    weight = there.to(chances.dtype).unsqueeze(-1)
    mean = (chances * weight).sum(0) / weight.sum().clamp(min=1)
    each = (_entropy(chances) * weight.squeeze(-1)).sum() / weight.sum().clamp(min=1)
    return (each - _entropy(mean)) * there.any()


def _entropy(chances: Tensor) -> Tensor:
    return -(chances * chances.clamp(min=1e-9).log()).sum(-1)
