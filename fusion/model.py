"""The whole network: encoders, a fusion and a head, composed by the constructor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fusion.tokens import Tokens, clean, present

Judge = Callable[[Tensor], Tensor]
"""The loss of the head's answer to vectors, against the targets of their patients. Shape: (B, ..., D) -> (B, ...)."""

Losses = Callable[[Judge], Mapping[str, Tensor]]
"""What a fusion wants to be minimised beside the task: named scalars, already weighted; asked for in training only."""


def no_losses(judge: Judge) -> Mapping[str, Tensor]:  # noqa: ARG001 - the type of Losses
    """Return nothing: most fusions are trained by the task alone."""
    return {}


class Fused(NamedTuple):
    """What a fusion returns: V views of each patient, how much each counts, and the losses it needs of its own.

    V is 1 for early and cross-attention fusion and the number of modalities for late fusion, where the weights
    explain the prediction. A loss that needs targets asks the judge about vectors of width D.

    Shape:
        views: (B, V, D). weights: (B, V). losses: Judge -> scalars by name.
    """

    views: Tensor
    weights: Tensor
    losses: Losses = no_losses


def one_view(view: Tensor, losses: Losses = no_losses) -> Fused:
    """Return a single view that counts 1. Shape: (B, D) -> views (B, 1, D), weights (B, 1)."""
    return Fused(view.unsqueeze(1), view.new_ones(len(view), 1), losses)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the entries of a mask, 0 where there are none. Shape: two of any one shape -> scalar."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def mean_or_zero(losses: Tensor) -> Tensor:
    """Mean of losses; 0 where there is none, from which nothing is learned. Shape: (N,) -> scalar."""
    return losses.sum() / max(1, len(losses))


class FusionModel(nn.Module):
    """Encode the modalities a patient has, fuse them, and predict.

    Encoders run only on the patients who have their modality. In training, `modality_dropout` hides a modality
    from a patient with that probability, never the last one. The head is linear unless another is given.

    Shape:
        inputs: Mapping of modality to Inputs with a `mask` (B, ...) -> logits (B, K).
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module],
        fusion: nn.Module,
        dim: int,
        outputs: int,
        modality_dropout: float = 0.0,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoders, self.fusion = nn.ModuleDict(dict(encoders)), fusion
        self.head = nn.Linear(dim, outputs) if head is None else head
        self.dim, self.modality_dropout = dim, modality_dropout

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the logits of each patient."""
        return self.predict(self.fuse(inputs))

    def fuse(self, inputs: Mapping[str, Any]) -> Fused:
        """Return the views and their weights; the weights are an explanation."""
        return self.fusion(self.encode(inputs))

    def predict(self, fused: Fused) -> Tensor:
        """Return logits: the head's answer to each view, summed by weight."""
        return torch.einsum("bv,bvk->bk", fused.weights, self.head(fused.views))

    def encode(self, inputs: Mapping[str, Any]) -> dict[str, Tokens]:
        """Return the tokens of every modality for all patients, absent ones masked."""
        has = torch.stack([present(inputs[name].mask) for name in self.encoders], dim=1)
        if self.training and self.modality_dropout > 0:
            has = drop_modalities(has, self.modality_dropout)
        nothing = next(self.head.parameters()).new_zeros(self.dim)
        return {
            name: encode_present(encoder, inputs[name], has[:, i], nothing)
            for i, (name, encoder) in enumerate(self.encoders.items())
        }


def encode_present(encoder: nn.Module, inputs: Any, has: Tensor, nothing: Tensor) -> Tokens:
    """Encode the patients who have a modality; the others are masked.

    Shape:
        Inputs (B, ...), has (B,) bool, nothing (D,) -> Tokens (B, T, D).
    """
    rows, some = present_rows(inputs, has)
    if len(rows) == 0:
        values = nothing.expand(len(has), 1, -1)
        return Tokens(values, has.new_zeros(values.shape[:2], dtype=torch.bool))
    return spread_rows(encoder(some), rows, len(has))


def present_rows(inputs: Any, has: Tensor | None = None) -> tuple[Tensor, Any]:
    """Return which rows have a modality, and their inputs only. Shape: Inputs (B, ...) -> (R,), Inputs (R, ...)."""
    has = present(inputs.mask) if has is None else has
    rows = has.nonzero().squeeze(1)
    return rows, inputs if len(rows) == len(has) else type(inputs)(*(part[rows] for part in inputs))


def spread_rows(tokens: Tokens, rows: Tensor, total: int) -> Tokens:
    """Lay the tokens of some rows out among all, where the others are masked. Shape: (R, T, D), (R,) -> (B, T, D)."""
    found = clean(tokens)
    if len(rows) == total:
        return found
    values = found.values.new_zeros(total, *found.values.shape[1:])
    mask = found.mask.new_zeros(total, found.mask.shape[1])
    return Tokens(values.index_copy(0, rows, found.values), mask.index_copy(0, rows, found.mask))


def drop_modalities(has: Tensor, probability: float) -> Tensor:
    """Hide each present modality with a probability, keeping at least one of those a patient has.

    Shape:
        has (B, M) bool -> (B, M) bool.

    Reference:
        Neverova et al., ModDrop: Adaptive Multi-modal Gesture Recognition, 2016.
    """
    chance = torch.rand(has.shape, device=has.device)
    kept = has & (chance >= probability)
    luckiest = chance.masked_fill(~has, -1.0).argmax(1, keepdim=True)
    return kept | (has & torch.zeros_like(has).scatter(1, luckiest, True))
