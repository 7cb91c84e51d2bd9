"""Visits: groups of events close in time, found from the gaps between them, whatever the scale of the record."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from encoders.codes.vocabulary import CodeInputs


class Visits(NamedTuple):
    """Which visit each event belongs to, and what visits there are, oldest first, without holes.

    Shape:
        group (B, T) int64; days (B, S) float, mean of a visit's events; gap (B, S) float days since the visit before,
        0 for the first; mask (B, S) bool.
    """

    group: Tensor
    days: Tensor
    gap: Tensor
    mask: Tensor


def find_visits(inputs: CodeInputs, most: int) -> Visits:
    """Cut each patient's events at the largest gaps into at most `most` visits; events at one time stay together.

    A fixed length of a visit would make years of history fine and a day of intensive care a single visit, or the
    other way round.
    """
    days = inputs.days.masked_fill(~inputs.mask, 0.0)
    step = (days[:, 1:] - days[:, :-1]).abs() * (inputs.mask[:, 1:] & inputs.mask[:, :-1])
    gaps = torch.nn.functional.pad(step, (1, 0))  # (B, T), of an event to the one before
    count = min(most - 1, gaps.shape[1])
    cut = gaps > 0
    if count:
        cut &= gaps >= gaps.topk(count, dim=1).values[:, -1:]
    slots = max(1, min(most, gaps.shape[1]))
    group = (cut.cumsum(1) if count else torch.zeros_like(cut, dtype=torch.int64)).clamp(max=slots - 1)
    when, mask = mean_by_visit(days.unsqueeze(-1), inputs.mask, group, slots)
    when = when.squeeze(-1)
    gap = (when[:, :-1] - when[:, 1:]).abs() * mask[:, 1:]
    return Visits(group, when, torch.nn.functional.pad(gap, (1, 0)), mask)


def mean_by_visit(values: Tensor, mask: Tensor, group: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Average the real events of each visit.

    Shape:
        values (B, T, D), mask (B, T), group (B, T) -> (B, slots, D), mask (B, slots) bool.
    """
    values = values.masked_fill(~mask.unsqueeze(-1), 0.0)
    total = values.new_zeros(len(values), slots, values.shape[-1])
    total = total.scatter_add(1, group.unsqueeze(-1).expand_as(values), values)
    counts = values.new_zeros(len(values), slots).scatter_add(1, group, mask.to(values.dtype))
    return total / counts.clamp(min=1).unsqueeze(-1), counts > 0


def backwards(values: Tensor, mask: Tensor) -> Tensor:
    """Turn the real visits of each patient round; padding stays behind. Shape: (B, S, D), (B, S) -> (B, S, D)."""
    places = torch.arange(mask.shape[1], device=mask.device)
    last = mask.sum(1, keepdim=True) - 1
    order = torch.where(places <= last, last - places, places)
    return values.gather(1, order.unsqueeze(-1).expand_as(values))
