"""Averages of weights over the steps of a run, which predict more steadily than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential average of every step's weights (ema), or the plain mean of the last epochs' (swa).

    Only what is trained is kept twice, so a frozen language model costs nothing. The exponential average warms up:
    its decay is at most (1 + n) / (10 + n) after n steps.

    Reference:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization (SWA), 2018; Polyak,
        Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """

    def __init__(self, kind: Literal["none", "ema", "swa"], decay: float, first_epoch: int) -> None:
        self.kind, self.decay, self.first_epoch = kind, decay, first_epoch
        self.count = 0
        self.weights: dict[str, Tensor] = {}

    def after_step(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a step into the exponential average."""
        if self.kind == "ema":
            self._mix(state, 1 - min(self.decay, (1 + self.count) / (10 + self.count)))

    def after_epoch(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Take the weights of an epoch, counted from 1, into the plain mean."""
        if self.kind == "swa" and epoch >= self.first_epoch:
            self._mix(state, 1 / (self.count + 1))

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Put the average in the model's place for a while; nothing happens before there is one."""
        own = model.state_dict()
        kept = {name: own[name].clone() for name in self.weights}
        try:
            model.load_state_dict(self.weights, strict=False)
            yield
        finally:
            model.load_state_dict(kept, strict=False)

    @torch.no_grad()
    def _mix(self, state: Mapping[str, Tensor], share: float) -> None:
        """Move the average towards a state by a share; what is no number with a point is copied."""
        for name, value in state.items():
            if self.count and value.is_floating_point():
                self.weights[name].lerp_(value, share)
            else:
                self.weights[name] = value.detach().clone()
        self.count += 1
