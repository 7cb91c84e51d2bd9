"""Gradient blending: losses of single modalities and of all together, weighed by how well each generalises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

JOINT = "joint"
_SHARE = 0.1  # of the training rows, kept from gradients to see what generalises
_PERIOD = 3  # epochs between two looks
_FLOOR = 1e-4  # of a squared overfitting, which may be nothing by luck


class GradientBlend:
    """Weights of the joint and of each modality's loss: proportional to generalisation / overfitting squared.

    A tenth of the training rows is kept from gradients. Every three epochs G is how far its loss fell since the last
    look, O how far the gap to the training loss grew, and the weights are G / O^2, none where G is negative. The
    tuning and the held-out split take no part.

    Reference:
        Wang, Tran, Feiszli, What Makes Training Multi-modal Classification Networks Hard?, 2020 (online G-Blend).
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        self.names = (JOINT, *modalities)
        self.weights = dict.fromkeys(self.names, 1 / len(self.names))
        self.look: dict[str, dict[str, float]] | None = None
        self.epochs = 0

    def due(self) -> bool:
        """Tell whether it is time for a look: before the first epoch and after every period."""
        return self.look is None or self.epochs >= _PERIOD

    def update(self, seen: Mapping[str, float], kept: Mapping[str, float]) -> None:
        """Take the losses on rows that were learned from and on rows that were not, and set the weights anew."""
        before, self.look, self.epochs = self.look, {"seen": dict(seen), "kept": dict(kept)}, 0
        if before is None:
            return
        found = {}
        for name in self.names:
            gain = before["kept"][name] - kept[name]
            overfit = (kept[name] - seen[name]) - (before["kept"][name] - before["seen"][name])
            found[name] = max(gain, 0.0) / max(overfit**2, _FLOOR)
        total = sum(found.values())
        if total > 0:
            self.weights = {name: value / total for name, value in found.items()}

    def state(self) -> dict[str, Any]:
        """Return plain JSON data that `restore` reads back."""
        return {"weights": self.weights, "look": self.look, "epochs": self.epochs}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.weights, self.look, self.epochs = dict(state["weights"]), state["look"], state["epochs"]


def keep_back(rows: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training rows into those to learn from and those kept back. Shape: (N,) -> (N - N // 10,), (N // 10,)."""
    mixed = np.random.default_rng(seed).permutation(rows)
    count = max(1, int(len(rows) * _SHARE))
    return np.sort(mixed[count:]), np.sort(mixed[:count])
