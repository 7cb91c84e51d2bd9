"""Layers of K models of one structure as one: batched matrix products instead of K small ones.

Rows of K models stand one model after the other ("folded"): (K * B, ...). A layer that is `shared` reads what is the
same for all models, (B, ...), and gives (K, B, ...). All numbers are those of the K layers, up to float error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fusion.early import EarlyFusion
from fusion.late import LateFusion
from fusion.model import present_rows, spread_rows
from fusion.sum import SumFusion
from fusion.tokens import Tokens

STACKABLE = (EarlyFusion, SumFusion, LateFusion)
"""Fusions made of the layers below; each is compared with separate training by a test."""


class StackedLinear(nn.Module):
    """K linear layers. Shape: folded (K * B, ..., I) -> (K * B, ..., O); shared (B, ..., I) -> (K, B, ..., O)."""

    def __init__(self, layers: Sequence[nn.Linear], *, shared: bool = False) -> None:
        super().__init__()
        self.shared, self.weight = shared, _stack([each.weight for each in layers])
        biases = [each.bias for each in layers if each.bias is not None]
        self.bias = _stack(biases) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply every model's rows by its own weights."""
        models, outer, inner = self.weight.shape
        rows = x.reshape(1, -1, inner).expand(models, -1, -1) if self.shared else x.reshape(models, -1, inner)
        if self.bias is None:
            found = torch.bmm(rows, self.weight.mT)
        else:
            found = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.mT)
        return found.view(*([models] if self.shared else []), *x.shape[:-1], outer)


class StackedEmbedding(nn.Module):
    """K tables looked up at once. Shape: (...) int64, the same for all models -> (K, ..., D)."""

    def __init__(self, tables: Sequence[nn.Embedding]) -> None:
        super().__init__()
        self.weight = _stack([each.weight for each in tables])

    def forward(self, numbers: Tensor) -> Tensor:
        """Look the same numbers up in every model's table."""
        models, size = self.weight.shape[:2]
        start = torch.arange(models, device=numbers.device).mul(size).view(-1, *[1] * numbers.dim())
        return functional.embedding(numbers + start, self.weight.flatten(0, 1))


class StackedLayerNorm(nn.Module):
    """K layer norms over the last axis. Shape: (K * B, ..., F) -> the same."""

    def __init__(self, layers: Sequence[nn.LayerNorm]) -> None:
        super().__init__()
        self.weight, self.bias = _stack([each.weight for each in layers]), _stack([each.bias for each in layers])
        self.eps = layers[0].eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every row, then scale and shift it as its model does."""
        models, width = self.weight.shape
        rows = functional.layer_norm(x, (width,), eps=self.eps).view(models, -1, width)
        return torch.addcmul(self.bias.unsqueeze(1), rows, self.weight.unsqueeze(1)).view(x.shape)


class StackedDropout(nn.Module):
    """K dropouts, each with its probability and its own dice. Shape: (K * B, ...) -> the same."""

    def __init__(self, layers: Sequence[nn.Dropout], dice: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.probabilities, self.dice = [each.p for each in layers], dice

    def forward(self, x: Tensor) -> Tensor:
        """Drop from every model's rows what it would drop alone, in training."""
        if not self.training or not any(self.probabilities):
            return x
        kept = torch.ones_like(x).unflatten(0, (len(self.dice), -1))
        for mine, probability, dice in zip(kept, self.probabilities, self.dice, strict=True):
            if probability >= 1:
                mine.zero_()
            elif probability > 0:
                mine.bernoulli_(1 - probability, generator=dice).div_(1 - probability)
        return x * kept.flatten(0, 1)


class OwnParameters(nn.Module):
    """A module of stacked layers whose own parameters, (K, ...), are given the shape that its `forward` wants."""

    def __init__(self, module: nn.Module, shape: Callable[[Tensor, Any], Tensor]) -> None:
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, inputs: Any) -> Any:
        """Run the module."""
        own = {name: self.shape(each, inputs) for name, each in self.module.named_parameters(recurse=False)}
        return functional_call(self.module, own, (inputs,))


class StackedModel(nn.Module):
    """K models of one structure, from the inputs they share; their weights become views of its own.

    What `backward` leaves in the stacked weights, `give_gradients` hands to the models' own parameters, so that each
    model keeps an optimizer of its own.

    Shape:
        inputs: Mapping of modality to Inputs with a `mask` (B, ...) -> logits (K, B, outputs).
    """

    def __init__(
        self, models: Sequence[nn.Module], encoders: Mapping[str, nn.Module], fusion: nn.Module, head: StackedLinear
    ) -> None:
        super().__init__()
        self.encoders, self.fusion, self.head = nn.ModuleDict(dict(encoders)), fusion, head
        self.count = len(models)
        owners = zip(*(each.parameters() for each in models), strict=True)
        self._pairs = list(zip(self.parameters(), owners, strict=True))
        for stacked, own in self._pairs:
            for mine, values in zip(own, stacked.detach(), strict=True):
                mine.data = values

    def forward(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the logits of each model for each patient."""
        fused = self.fusion({name: self._encode(encoder, inputs[name]) for name, encoder in self.encoders.items()})
        logits = torch.einsum("bv,bvk->bk", fused.weights, self.head(fused.views))
        return logits.unflatten(0, (self.count, -1))

    @torch.no_grad()
    def give_gradients(self, most: Tensor) -> None:
        """Clip every model's gradients to its norm `most` (K,) and hand them out; the stacked ones start anew."""
        found = [each.grad for each in self.parameters() if each.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(each.flatten(1), dim=1) for each in found]).norm(dim=0)
        factor = (most / (norms + 1e-6)).clamp(max=1.0)  # as `clip_grad_norm_` does
        for each in found:
            each.mul_(factor.view(-1, *[1] * (each.dim() - 1)))
        for stacked, own in self._pairs:
            parts = [None] * self.count if stacked.grad is None else stacked.grad.unbind()
            for mine, gradient in zip(own, parts, strict=True):
                mine.grad = gradient
            stacked.grad = None

    def _encode(self, encoder: nn.Module, inputs: Any) -> Tokens:
        rows, some = present_rows(inputs)
        total = len(inputs.mask)
        if len(rows) == 0:
            nothing = self.head.weight.new_zeros(self.count * total, 1, self.head.weight.shape[-1])
            return Tokens(nothing, nothing.new_zeros(nothing.shape[:2], dtype=torch.bool))
        places = torch.arange(self.count, device=rows.device).mul(total).unsqueeze(1) + rows
        return spread_rows(encoder(some), places.flatten(), self.count * total)


def stack_layers(modules: Sequence[nn.Module], dice: Sequence[torch.Generator], *, shared: bool = False) -> nn.Module:
    """Return one module for K of the same structure: known layers are stacked, all others are kept and gone into."""
    first: Any = modules[0]
    layers: Any = modules
    if isinstance(first, nn.Linear):
        return StackedLinear(layers, shared=shared)
    if isinstance(first, nn.Embedding):
        return StackedEmbedding(layers)
    if isinstance(first, nn.LayerNorm):
        return StackedLayerNorm(layers)
    if isinstance(first, nn.Dropout):
        return StackedDropout(layers, dice)
    found = copy.deepcopy(first)
    for name, _ in first.named_parameters(recurse=False):
        setattr(found, name, _stack([getattr(each, name) for each in layers]))
    for name, _ in first.named_children():
        setattr(found, name, stack_layers([each.get_submodule(name) for each in layers], dice, shared=shared))
    return found


def stack_fusion(fusions: Sequence[nn.Module], dice: Sequence[torch.Generator]) -> nn.Module:
    """Return one fusion for K fusions of one of the `STACKABLE` classes. Shape: Tokens (K * B, T, D) -> Fused."""
    models = len(fusions)

    def by_row(parameter: Tensor, tokens: Mapping[str, Tokens]) -> Tensor:
        rows = len(next(iter(tokens.values())).mask)
        return parameter.repeat_interleave(rows // models, dim=0)

    found = stack_layers(fusions, dice)
    return OwnParameters(found, by_row) if any(True for _ in found.parameters(recurse=False)) else found


def _stack(parameters: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([each.detach() for each in parameters]))
