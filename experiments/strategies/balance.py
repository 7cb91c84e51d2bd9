"""Balancing modalities: the encoder that is ahead takes smaller steps, so that the others have something to learn.

Published with plain gradient descent, as a factor on the gradient. An adaptive optimizer such as AdamW divides that
factor out again, so here it is one on the step, which is the same thing for gradient descent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fusion.model import mean_where

_MOST = 0.9  # of a step that regulation may take away
_GROWTH = 0.05  # a Fisher trace that grows less than so from epoch to epoch has stopped growing


class Balance(Protocol):
    """Says after each backward pass how large a step each encoder takes, given how sure each modality is alone."""

    def adjust(self, encoders: Mapping[str, nn.Module], confidence: Mapping[str, float]) -> dict[str, float]:
        """Return the factor of each encoder's step; gradients may be changed in place."""
        ...

    def end_epoch(self) -> None:
        """Take note that an epoch is over."""
        ...

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        ...


class OgmGe:
    """The more one modality is right than the others, the smaller its encoder's step; noise keeps it general.

    With r the ratio of a modality's mean probability of the truth to the others' mean, a step is multiplied by
    1 - tanh(strength r) where r > 1. Gaussian noise with each gradient's own spread is added to it, but not where it is
    zero: what a batch does not use, such as a row of a table, stays as it is. The published form does so to
    convolutions only, for two modalities, between two chosen epochs; here for all weights, any number, always.

    Reference:
        Peng et al., Balanced Multimodal Learning via On-the-fly Gradient Modulation, 2022.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def adjust(self, encoders: Mapping[str, nn.Module], confidence: Mapping[str, float]) -> dict[str, float]:
        """Add noise to the gradients and return the factor of each encoder's step."""
        factors = {}
        for name, encoder in encoders.items():
            others = [each for other, each in confidence.items() if other != name]
            ratio = confidence[name] * len(others) / max(sum(others), 1e-9) if name in confidence and others else 0.0
            factors[name] = 1 - float(torch.tensor(self.strength * ratio).tanh()) if ratio > 1 else 1.0
            for gradient in _gradients(encoder):
                if gradient.numel() > 1:
                    gradient.add_(torch.randn_like(gradient) * gradient.std() * (gradient != 0))
        return factors

    def end_epoch(self) -> None:
        """Nothing is remembered from epoch to epoch."""

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""


class InfoReg:
    """While an encoder still acquires information, the modality that is ahead is slowed down by how far it is ahead.

    Information is the trace of the Fisher matrix, here the squared gradient; an encoder acquires it as long as the
    epoch's mean grows by more than 5%. A step is multiplied by 1 - min(strength * lead, 0.9), where the lead is
    that of the modality's mean probability of the truth over the others'.

    Reference:
        Huang et al., Adaptive Unimodal Regulation for Balanced Multimodal Information Acquisition (InfoReg), 2025.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.sums: dict[str, float] = {}
        self.steps = 0
        self.before: dict[str, float] = {}
        self.growing: dict[str, bool] = {}

    def adjust(self, encoders: Mapping[str, nn.Module], confidence: Mapping[str, float]) -> dict[str, float]:
        """Return the factor of each encoder's step."""
        factors = {}
        self.steps += 1
        for name, encoder in encoders.items():
            gradients = list(_gradients(encoder))
            trace = float(torch.stack([each.square().sum() for each in gradients]).sum()) if gradients else 0.0
            self.sums[name] = self.sums.get(name, 0.0) + trace
            others = [each for other, each in confidence.items() if other != name]
            lead = confidence[name] - sum(others) / len(others) if name in confidence and others else 0.0
            slow = lead > 0 and self.growing.get(name, True)
            factors[name] = 1 - min(self.strength * lead, _MOST) if slow else 1.0
        return factors

    def end_epoch(self) -> None:
        """Compare the mean trace of this epoch with that of the last."""
        means = {name: total / max(1, self.steps) for name, total in self.sums.items()}
        self.growing = {name: mean > (1 + _GROWTH) * self.before.get(name, 0.0) for name, mean in means.items()}
        self.before, self.sums, self.steps = means, {}, 0

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {"before": self.before, "growing": self.growing}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.before, self.growing = dict(state["before"]), dict(state["growing"])


def confidences(modalities: Sequence[str], confidence: Tensor, has: Tensor) -> dict[str, float]:
    """Mean probability of the truth of each modality that anyone in the batch has. Shape: (B, M), (B, M) bool."""
    return {
        name: float(mean_where(confidence[:, i], has[:, i])) for i, name in enumerate(modalities) if has[:, i].any()
    }


def _gradients(encoder: nn.Module) -> list[Tensor]:
    return [each.grad for each in encoder.parameters() if each.grad is not None]
