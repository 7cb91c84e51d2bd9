"""The gradients of a batch, learned from whole or in parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.data.batches import Batch
from experiments.device import move
from experiments.evaluate import precision
from experiments.strategies import Strategies
from fusion import FusionModel


class Learned(NamedTuple):
    """What a batch gave: its named losses, scalars without gradients, and how sure each modality is alone."""

    losses: dict[str, Tensor]
    confidence: dict[str, float]


def gradients(
    model: FusionModel, strategies: Strategies, parts: Iterable[Batch], patients: int, device: torch.device
) -> Learned:
    """Add the gradients of a batch of so many patients to the weights', part by part.

    Each part counts by its share of the patients, so that a loss that is a mean over patients gives the gradient of the
    whole batch, within float error and but for dice. What looks across patients sees a part instead: batch
    normalisation, contrastive alignment, loads of experts, interaction rates, and the mean over those who have a
    modality.
    """
    losses: dict[str, Tensor] = {}
    sure: list[tuple[int, Mapping[str, float]]] = []
    for part in parts:
        share = len(part.rows) / patients
        inputs, target = move(part.inputs, device), part.target.to(device)
        with precision(device):
            found = strategies(model, inputs, target)
        (torch.stack(list(found.losses.values())).sum() * share).backward()
        for name, value in found.losses.items():
            losses[name] = losses.get(name, 0.0) + value.detach() * share
        sure.append((len(part.rows), found.confidence))
    return Learned(losses, mean_confidence(sure))


def mean_confidence(sure: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Average what is known of each modality over the parts in which anybody has it."""
    if len(sure) == 1:
        return dict(sure[0][1])
    found = {}
    for name in {name for _, each in sure for name in each}:
        known = [(count, each[name]) for count, each in sure if name in each]
        found[name] = sum(count * value for count, value in known) / sum(count for count, _ in known)
    return found
