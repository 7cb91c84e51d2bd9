"""Zero-shot risk: futures of a patient are drawn token by token, and those in which something happens are counted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from encoders.codes.timeline import INTERVALS, Timeline, TimelineInputs
from fusion.component import UsageError


@torch.no_grad()
def future_risk(
    encoder: Any,
    timeline: Timeline,
    inputs: TimelineInputs,
    events: Collection[str],
    *,
    horizon_days: float,
    samples: int = 20,
    most_tokens: int = 64,
    seed: int = 0,
) -> Tensor:
    """Return the share of drawn futures in which one of the events comes within the horizon.

    A future ends with an event, with the horizon, or after `most_tokens` without either, which counts as none. A gap
    lasts as long as the shortest of its kind.

    Args:
        encoder: a `TimelineTransformer` that was pre-trained to tell what comes next.
        events: tokens, as `ICD10CM//I50`.

    Shape:
        TimelineInputs (B, T) of patients who have something -> (B,) from 0 to 1.

    Raises:
        UsageError: the timeline knows none of the events.
    """
    wanted = [timeline.number[each] for each in events if each in timeline.number]
    if not wanted:
        raise UsageError(f"the timeline knows no token {' or '.join(sorted(events))}, so that it never comes")
    lasts = torch.zeros(timeline.size, device=inputs.ids.device)
    for name, days in INTERVALS:
        lasts[timeline.number[name]] = days
    happens = torch.zeros(timeline.size, dtype=torch.bool, device=inputs.ids.device)
    happens[wanted] = True
    dice = torch.Generator(inputs.ids.device).manual_seed(seed)
    rows = [_drawn(encoder, row, lasts, happens, horizon_days, samples, most_tokens, dice) for row in _each(inputs)]
    return torch.stack(rows)


def _each(inputs: TimelineInputs) -> list[Tensor]:
    return [ids[mask] for ids, mask in zip(inputs.ids, inputs.mask, strict=True)]


def _drawn(
    encoder: Any,
    known: Tensor,
    lasts: Tensor,
    happens: Tensor,
    horizon: float,
    samples: int,
    most: int,
    dice: torch.Generator,
) -> Tensor:
    """Draw futures of one patient. Shape: known (T,) -> scalar."""
    longest = encoder.place.num_embeddings
    ids = known[-longest:].expand(samples, -1)
    days, found = torch.zeros(samples, device=known.device), torch.zeros(samples, dtype=torch.bool, device=known.device)
    for _ in range(most):
        recent = ids[:, -longest:]
        values = encoder(TimelineInputs(recent, torch.ones_like(recent, dtype=torch.bool))).values[:, -1]
        chances = encoder.following(values).float()
        chances[:, 0] = -torch.inf  # nobody can say what an unknown token would be
        drawn = torch.multinomial(chances.softmax(-1), 1, generator=dice)
        days = days + lasts[drawn.squeeze(1)]
        found |= happens[drawn.squeeze(1)] & (days <= horizon)
        ids = torch.cat([ids, drawn], dim=1)
        if bool((found | (days > horizon)).all()):
            break
    return found.float().mean()
