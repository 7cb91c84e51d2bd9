"""MultiModN: modalities update one state, one after the other, and every state must predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from fusion.component import Float
from fusion.model import Fused, Judge, mean_where, one_view
from fusion.pooled import Pooled, mixer
from fusion.tokens import Tokens


class MultiModNFusion(nn.Module):
    """A state starts the same for all; each modality present rewrites it from [state; modality]; the last is the view.

    Every intermediate state must answer too, which makes the order readable: what did each modality change?

    Missing:
        An absent modality leaves the state as it is, so nothing can be learned from its absence.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1); losses `states_alone` and
        `state_change`.

    Reference:
        Swamy et al., MultiModN: Multimodal, Multi-Task, Interpretable Modular Networks, 2023.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        alone: Annotated[float, Float(0.1, 1.0)] = 0.5,
        change: Annotated[float, Float(1e-3, 1e-1, log=True)] = 1e-2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.alone, self.change = alone, change
        self.pool = Pooled(modalities, dim)
        self.start = nn.Parameter(torch.randn(dim) * 0.02)
        self.update = nn.ModuleList(mixer(2 * dim, dim, dropout) for _ in modalities)

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        values, has = self.pool(tokens)
        state = self.start.to(values.dtype).expand(len(values), -1)
        states = []
        for i, update in enumerate(self.update):
            new = state + update(torch.cat([state, values[:, i]], dim=-1))
            state = torch.where(has[:, i : i + 1], new, state)
            states.append(state)
        path = torch.stack(states, dim=1)

        def losses(judge: Judge) -> dict[str, Tensor]:
            before = torch.cat([self.start.expand(len(path), 1, -1), path[:, :-1]], dim=1)
            return {
                "states_alone": self.alone * mean_where(judge(path), has),
                "state_change": self.change * mean_where((path - before).square().mean(-1), has),
            }

        return one_view(state, losses)
