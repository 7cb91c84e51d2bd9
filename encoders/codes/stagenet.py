"""StageNet: a recurrent encoder that keeps track of the stage of the disease."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.codes.embedding import EventEmbedding
from encoders.codes.visits import find_visits, mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Choice, Float, Int, UsageError
from fusion.tokens import Tokens

_WINDOW = 5  # visits a stage-adaptive convolution looks back over


class StageNet(nn.Module):
    """An LSTM with ordered master gates, told the gap since the last visit; how far they open says how the stage moves.

    A convolution over the last five states weighs them by the cumulative stage movement, and a squeeze-and-excitation
    gate picks the theme of the progression; both are added to the state. Chosen over ConCare because it knows gaps and
    runs over any vocabulary, where ConCare needs a recurrence of its own for every one of thousands of codes.

    Shape:
        CodeInputs (B, T) -> Tokens (B, S, D), a token a visit.

    Raises:
        UsageError: dim is not divisible by levels.

    Reference:
        Gao et al., StageNet: Stage-Aware Neural Networks for Health Risk Prediction, 2020.
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        levels: Annotated[int, Choice(2, 4)] = 4,
        visits: Annotated[int, Int(4, 32, log=True)] = 16,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        if dim % levels:
            raise UsageError(f"dim ({dim}) must be divisible by levels ({levels})")
        self.visits, self.levels, self.dim = visits, levels, dim
        self.embed, self.drop = EventEmbedding(preprocessor, dim), nn.Dropout(dropout)
        width = 4 * dim + 2 * levels
        self.from_input, self.from_state = nn.Linear(dim + 1, width), nn.Linear(dim + 1, width)
        self.convolve = nn.Linear(_WINDOW * dim, dim)
        self.squeeze, self.excite = nn.Linear(dim, max(1, dim // 4)), nn.Linear(max(1, dim // 4), dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Run over each patient's visits, oldest first."""
        visits = find_visits(inputs, self.visits)
        values, mask = mean_by_visit(self.drop(self.embed(inputs)), inputs.mask, visits.group, visits.mask.shape[1])
        gap = visits.gap.log1p()
        state = memory = torch.zeros_like(values[:, 0])
        states, moves = [torch.zeros_like(state)] * (_WINDOW - 1), [torch.zeros_like(gap[:, 0])] * (_WINDOW - 1)
        found = []
        for i in range(values.shape[1]):
            state, memory, move = self._cell(values[:, i], gap[:, i : i + 1], state, memory)
            states, moves = [*states[-_WINDOW + 1 :], state], [*moves[-_WINDOW + 1 :], move]
            found.append(state + self._progression(torch.stack(states, dim=1), torch.stack(moves, dim=1)))
        return Tokens(torch.stack(found, dim=1), mask)

    def _cell(self, x: Tensor, gap: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step: new state, new memory, and how far the stage moved (1 - mean of the master forget gate)."""
        gates = self.from_input(torch.cat([x, gap], dim=-1)) + self.from_state(torch.cat([state, gap], dim=-1))
        rest, master = gates.split([4 * self.dim, 2 * self.levels], dim=-1)
        keep_levels, take_levels = master.chunk(2, dim=-1)
        keep = keep_levels.softmax(-1).cumsum(-1)  # rises from 0 to 1: lower levels are rewritten first
        take = take_levels.softmax(-1).flip(-1).cumsum(-1).flip(-1)
        move = 1 - keep.mean(-1)
        keep, take = (each.repeat_interleave(self.dim // self.levels, dim=-1) for each in (keep, take))
        forget, write, show, content = rest.chunk(4, dim=-1)
        forget, write, show, content = forget.sigmoid(), write.sigmoid(), show.sigmoid(), content.tanh()
        both = keep * take
        memory = both * (forget * memory + write * content) + (keep - both) * memory + (take - both) * content
        return show * memory.tanh(), memory, move

    def _progression(self, states: Tensor, moves: Tensor) -> Tensor:
        """Convolve the last states by stage movement. Shape: (B, W, D), (B, W) -> (B, D)."""
        local = states * moves.cumsum(1).softmax(1).unsqueeze(-1)
        theme = self.excite(functional.gelu(self.squeeze(local.mean(1)))).sigmoid()
        return self.drop(theme * self.convolve(local.flatten(1)))
