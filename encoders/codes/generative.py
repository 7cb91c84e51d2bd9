"""A transformer that reads a timeline forwards, so that it can also be asked what comes next."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.codes.timeline import UNKNOWN, Timeline, TimelineInputs
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.model import mean_or_zero
from fusion.tokens import Tokens


class TimelineTransformer(nn.Module):
    """Causal self-attention over the tokens of a timeline: each token knows what came before it, and nothing later.

    What comes next is told by the embedding table itself, so that there is no head to train beside it.

    Shape:
        TimelineInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Renc et al., Zero Shot Health Trajectory Prediction Using Transformer (ETHOS), 2024; Zhang et al., Exploring
        Scaling Laws for EHR Foundation Models, 2025 (no sequence crosses a patient; here pre-norm blocks of any size).
    """

    preprocessor: ClassVar[type] = Timeline

    def __init__(
        self,
        preprocessor: Timeline,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 4)] = 2,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(preprocessor.size, dim)
        self.place = nn.Embedding(preprocessor.max_tokens, dim)
        for table in (self.embed, self.place):
            nn.init.normal_(table.weight, std=0.3)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: TimelineInputs) -> Tokens:
        """Encode each patient's tokens from what came before them."""
        length = inputs.ids.shape[1]
        places = torch.arange(length, device=inputs.ids.device).clamp(max=self.place.num_embeddings - 1)
        values = self.drop(self.embed(inputs.ids) + self.place(places))
        earlier = places.unsqueeze(1) >= places.unsqueeze(0)
        allowed = earlier & inputs.mask.unsqueeze(1)
        for block in self.blocks:
            values = block(values, allowed)
        return Tokens(self.norm(values), inputs.mask)

    def following(self, values: Tensor) -> Tensor:
        """Return logits of what comes next. Shape: (..., D) -> (..., tokens)."""
        return functional.linear(values, self.embed.weight) / values.shape[-1] ** 0.5


def next_event(encoder: TimelineTransformer, inputs: TimelineInputs) -> Tensor:
    """Mean cross-entropy of each known token given those before it, of the same patient. Shape: (B, T) -> scalar."""
    values, mask = encoder(inputs)
    asked = mask[:, 1:] & (inputs.ids[:, 1:] != UNKNOWN)
    logits = encoder.following(values[:, :-1][asked]).float()
    return mean_or_zero(functional.cross_entropy(logits, inputs.ids[:, 1:][asked], reduction="none"))
