"""Training the denoiser, drawing from it, and asking it what it expects of cells given the others."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.generative.denoiser import SIGMA_MAX, SIGMA_MIN, Denoiser, noises
from experiments.progress import progress_bar
from fusion.component import UsageError

Array = NDArray[Any]
_JUDGES = 0.1  # of the training rows: they choose when to stop
_LOOKS = 20  # how often they are asked
_CLIP = 4.0  # normal scores that are given are kept within
_ROWS = 4096
LABEL = 5.0


@dataclass(frozen=True)
class Training:
    """How the denoiser is trained."""

    steps: int = 5000
    batch: int = 256
    lr: float = 3e-3
    width: int = 128
    dropout: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class Layout:
    """Which cells belong together, and which are the label. Shape: groups and parts (C,) int64; label (C,) bool."""

    groups: Tensor
    parts: Tensor
    label: Tensor

    @classmethod
    def of(cls, groups: Sequence[str], parts: Sequence[str]) -> Layout:
        """Number names of groups and parts."""
        numbers = [torch.as_tensor(np.unique(np.array(each), return_inverse=True)[1]) for each in (groups, parts)]
        return cls(numbers[0], numbers[1], torch.tensor([part == "label" for part in parts]))


@dataclass(frozen=True)
class Diffusion:
    """A trained denoiser and how it did on the training rows that judged it, by step."""

    network: Denoiser
    history: tuple[tuple[int, float], ...]

    @torch.no_grad()
    def sample(self, start: Array, given: Array, seed: int, steps: int = 32) -> Array:
        """Draw cells that are not given by Heun's method. Shape: start (N, C), given (N, C) bool -> (N, C)."""
        generator = torch.Generator().manual_seed(seed)
        found = []
        for clean, fixed in _batches(start, given):
            levels = noises(steps)
            cells = torch.where(fixed, clean, levels[0] * torch.randn(clean.shape, generator=generator))
            for now, after in pairwise(levels):
                slope = self._slope(cells, fixed, now)
                moved = cells + (after - now) * slope
                if after > 0:
                    moved = cells + (after - now) * (slope + self._slope(moved, fixed, after)) / 2
                cells = moved
            found.append(cells)
        return torch.cat(found).double().numpy()

    @torch.no_grad()
    def expect(self, start: Array, given: Array) -> Array:
        """Return what is expected of cells given the others, in one pass. Shape: as `sample`."""
        found = []
        for clean, fixed in _batches(start, given):
            nothing = torch.where(fixed, clean, torch.zeros(()))  # as much noise as hides all, at its mean
            found.append(self.network(nothing, fixed, torch.full((len(clean), 1), SIGMA_MAX)))
        return torch.cat(found).double().numpy()

    def _slope(self, cells: Tensor, given: Tensor, sigma: Tensor) -> Tensor:
        expected = self.network(cells, given, sigma.expand(len(cells), 1))
        return (cells - expected) / sigma


def fit_diffusion(cells: Array, layout: Layout, training: Training, *, progress: bool = False) -> Diffusion:
    """Train a denoiser on rows; a tenth of them judge, and the weights they liked best are kept.

    Shape:
        cells (N, C).

    Raises:
        UsageError: the loss is not finite.
    """
    rows = torch.as_tensor(cells, dtype=torch.float32).clamp(-_CLIP, _CLIP)
    generator = torch.Generator().manual_seed(training.seed)
    order = torch.randperm(len(rows), generator=generator)
    judges = max(1, round(_JUDGES * len(rows)))
    held, learned = rows[order[:judges]], rows[order[judges:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        return _train(learned, held, layout, training, generator, progress)


def _train(
    rows: Tensor, held: Tensor, layout: Layout, training: Training, generator: torch.Generator, progress: bool
) -> Diffusion:
    network = Denoiser(rows.shape[1], training.width, dropout=training.dropout)
    average, best = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.lr, weight_decay=3e-2, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _pace(training.steps))
    history: list[tuple[int, float]] = []
    every = max(1, training.steps // _LOOKS)
    with progress_bar("learning what records look like", training.steps, enabled=progress) as advance:
        for step in range(1, training.steps + 1):
            batch = rows[torch.randint(len(rows), (training.batch,), generator=generator)]
            optimizer.zero_grad()
            lost = loss(network, batch, layout, generator)
            lost.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            _follow(average, network, min(0.998, step / (step + 10)))
            advance()
            if step % every == 0 or step == training.steps:
                judged = _judge(average, held, layout)
                if not math.isfinite(judged):
                    raise UsageError(f"the loss is not finite after {step} steps of training")
                if not history or judged < min(value for _, value in history):
                    best.load_state_dict(average.state_dict())
                history.append((step, judged))
    return Diffusion(best, tuple(history))


def loss(network: Denoiser, cells: Tensor, layout: Layout, generator: torch.Generator) -> Tensor:
    """Return the weighted squared error of cells that are not given. Shape: cells (B, C) -> ()."""
    given = draw_given(len(cells), layout, generator)
    drawn = torch.randn(len(cells), 1, generator=generator)
    sigma = (1.5 * drawn - 0.4).exp().clamp(SIGMA_MIN, SIGMA_MAX)
    hidden = torch.rand(len(cells), 1, generator=generator) < 0.5 * (given.float().mean(1, keepdim=True) > 0.5)
    sigma = torch.where(hidden, torch.tensor(SIGMA_MAX), sigma)  # asks what is expected given the others
    noise = torch.randn(cells.shape, generator=generator) * torch.where(hidden, torch.zeros(()), sigma)
    noisy = torch.where(given, cells, torch.where(hidden, torch.zeros(()), cells) + noise)
    weight = (sigma**2 + 1) / sigma**2
    squared = weight * (1 + (LABEL - 1) * layout.label) * (network(noisy, given, sigma) - cells) ** 2
    return squared[~given].mean()


def draw_given(count: int, layout: Layout, generator: torch.Generator) -> Tensor:
    """Draw which cells are given: in a third of rows nothing or the label, in a third any share, else nearly all.

    Groups and, in the last third, whole modalities are hidden together; every row hides something.

    Shape:
        -> (count, C) bool.
    """
    groups, parts = int(layout.groups.max()) + 1, int(layout.parts.max()) + 1
    kind = torch.randint(3, (count, 1), generator=generator)
    share = torch.rand(count, 1, generator=generator)
    some = torch.rand(count, groups, generator=generator) < torch.where(kind == 2, 1 - 2 / groups, share)
    whole = torch.rand(count, parts, generator=generator) < 1 - 0.5 / parts
    given = some[:, layout.groups] & (whole[:, layout.parts] | (kind != 2)) & (kind > 0)
    given |= (kind == 0) & (share < 0.5) & layout.label
    given &= ~((kind == 2) & (share < 0.5) & layout.label)
    hide = torch.randint(groups, (count, 1), generator=generator)
    return given & ~((layout.groups == hide) & given.all(1, keepdim=True))


def _judge(network: Denoiser, held: Tensor, layout: Layout) -> float:
    generator = torch.Generator().manual_seed(0)
    repeated = held.repeat(max(1, 2048 // len(held)), 1)
    with torch.no_grad():
        return float(loss(network, repeated, layout, generator))


def _follow(average: Denoiser, network: Denoiser, decay: float) -> None:
    with torch.no_grad():
        for mine, new in zip(average.parameters(), network.parameters(), strict=True):
            mine.lerp_(new, 1 - decay)


def _pace(steps: int) -> Callable[[int], float]:
    return lambda step: min(1.0, (step + 1) / 100) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2)


def _batches(start: Array, given: Array) -> list[tuple[Tensor, Tensor]]:
    cells = torch.as_tensor(np.where(given, start, 0.0), dtype=torch.float32).clamp(-_CLIP, _CLIP)
    return list(zip(cells.split(_ROWS), torch.as_tensor(given).split(_ROWS), strict=True))
