"""Differentiable search: architecture parameters learn on other patients than the weights they decide between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

Batch = TypeVar("Batch")
_RADIUS = 0.01  # of the finite difference, over the norm of its direction
_CLIP = 1.0


class Architect(Generic[Batch]):
    """Steps of the architecture parameters, each before a step of the weights.

    With order 1 the parameters follow the gradient of the development loss at the weights as they are. With order 2 the
    weights first take the step that the training loss asks for, so that the gradient knows how the weights will answer;
    the second derivative is a finite difference, for which both sides see the same dropout. `bonus` is taken from the
    development loss: AutoFM rewards nodes that differ.

    Args:
        alpha: architecture parameters by gene, outside of the model's parameters.
        weights: what the weight step trains.
        loss: the loss of a batch.
        bonus: what to maximise beside, already weighted.

    Reference:
        Liu et al., DARTS: Differentiable Architecture Search, 2019; Cui et al., AutoFM, 2024 (the bonus, and gradients
        clipped to norm 1).
    """

    def __init__(
        self,
        alpha: Mapping[str, Tensor],
        weights: Sequence[nn.Parameter],
        loss: Callable[[Batch], Tensor],
        *,
        bonus: Callable[[], Tensor] | None = None,
        order: Literal[1, 2] = 2,
        lr: float = 3e-3,
        weight_decay: float = 1e-3,
    ) -> None:
        self.alpha = {gene: each.requires_grad_() for gene, each in alpha.items()}
        self.weights = [each for each in weights if each.requires_grad]
        self.loss, self.bonus, self.order = loss, bonus, order
        self.optimizer = torch.optim.Adam(self.alpha.values(), lr=lr, weight_decay=weight_decay)

    def step(self, train: Batch, development: Batch, *, lr: float, weight_decay: float) -> None:
        """Move the architecture parameters once.

        Args:
            lr: of the weight step that is about to come; also its weight decay.
        """
        found = self._unrolled(train, development, lr, weight_decay) if self.order == 2 else self._plain(development)
        for each, gradient in zip(self.alpha.values(), found, strict=True):
            each.grad = gradient
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        moments = [
            {name: value.tolist() for name, value in self.optimizer.state[each].items()} for each in self.alpha.values()
        ]
        return {"alpha": {gene: each.tolist() for gene, each in self.alpha.items()}, "moments": moments}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        for (gene, each), moments in zip(self.alpha.items(), state["moments"], strict=True):
            each.copy_(torch.tensor(state["alpha"][gene]))
            if moments:
                self.optimizer.state[each] = {name: torch.tensor(value) for name, value in moments.items()}

    def _plain(self, development: Batch) -> list[Tensor]:
        return _gradients(self._outer(development), list(self.alpha.values()))

    def _outer(self, development: Batch) -> Tensor:
        loss = self.loss(development)
        return loss if self.bonus is None else loss - self.bonus()

    def _unrolled(self, train: Batch, development: Batch, lr: float, weight_decay: float) -> list[Tensor]:
        start = [each.detach().clone() for each in self.weights]
        inner, kept = _clipped(_gradients(self.loss(train), self.weights))
        with torch.no_grad():
            for weight, gradient in zip(self.weights, inner, strict=True):
                weight.sub_(lr * (gradient + weight_decay * weight))
        both = _gradients(self._outer(development), [*self.weights, *self.alpha.values()])
        direction, _ = _clipped(both[: len(self.weights)])
        outer = both[len(self.weights) :]
        radius = _RADIUS / max(float(_norm(direction)), 1e-12)
        seed = int(torch.randint(2**31, ()))
        sides = [self._beside(train, start, direction, sign * radius, seed) for sign in (1.0, -1.0)]
        _put(self.weights, start)
        return [
            each - lr * kept * (above - below) / (2 * radius) for each, above, below in zip(outer, *sides, strict=True)
        ]

    def _beside(
        self, train: Batch, start: Sequence[Tensor], direction: Sequence[Tensor], distance: float, seed: int
    ) -> list[Tensor]:
        """Return the training loss's gradient for the architecture, with the weights moved along a direction."""
        _put(self.weights, [each + distance * step for each, step in zip(start, direction, strict=True)])
        devices = [each.device for each in self.weights[:1] if each.is_cuda]
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return _gradients(self.loss(train), list(self.alpha.values()))


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(each) if one is None else one for each, one in zip(inputs, found, strict=True)]


def _clipped(gradients: Sequence[Tensor]) -> tuple[list[Tensor], float]:
    """Scale gradients down to norm 1 if they are longer; also return the factor."""
    factor = min(1.0, _CLIP / max(float(_norm(gradients)), 1e-12))
    return [factor * each for each in gradients], factor


def _norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(gradients)


@torch.no_grad()
def _put(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)
