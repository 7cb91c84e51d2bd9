"""Feature-wise modulation: what the others say scales and shifts the tokens of each modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import nn

from fusion.component import Choice, Float
from fusion.model import Fused, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens, clean, present


class ModulationFusion(nn.Module):
    """Tokens of each modality become (1 + s(c)) x + t(c), where c is what the other modalities say; then concatenate.

    DAFT does so to the feature maps of an image by a table of facts; here it goes all ways. `scale` is the activation
    of s: linear as in FiLM, tanh or sigmoid as in DAFT.

    Missing:
        An absent modality has no part in what the others are told, and a flag says so; nobody there, nothing changes.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, 2018; Wolf et al., DAFT: A Universal
        Module to Interweave Tabular Data and 3D Images in CNNs, 2022.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        scale: Annotated[str, Choice("linear", "tanh", "sigmoid")] = "linear",
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.modalities, count = tuple(modalities), len(modalities)
        self.activate = {"linear": nn.Identity(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}[scale]
        self.ask, self.read = Pooled(modalities, dim), Pooled(modalities, dim)
        self.modulate = nn.ModuleList(
            nn.Sequential(nn.Linear(count * (dim + 1), dim // 2), nn.ReLU(), nn.Linear(dim // 2, 2 * dim))
            for _ in self.modalities
        )
        self.mix = mixer(count * (dim + 1), dim, dropout)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        said, has = self.ask(tokens)
        modulated = {}
        for i, (name, modulate) in enumerate(zip(self.modalities, self.modulate, strict=True)):
            values, mask = clean(tokens[name])
            others = has.clone()
            others[:, i] = False
            context = torch.cat([(said * others.unsqueeze(-1)).flatten(1), others.to(values.dtype)], dim=-1)
            scale, shift = modulate(context).masked_fill(~present(others).unsqueeze(-1), 0.0).chunk(2, dim=-1)
            scale = self.activate(scale) * present(others).unsqueeze(-1)
            modulated[name] = Tokens(values * (1 + scale).unsqueeze(1) + shift.unsqueeze(1), mask)
        values, has = self.read(modulated)
        return one_view(self.mix(torch.cat([values.flatten(1), has.to(values.dtype)], dim=-1)))
