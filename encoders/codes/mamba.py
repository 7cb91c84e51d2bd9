"""A selective state space encoder: linear in the length of the record, with memory that chooses what to keep."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.codes.embedding import EventEmbedding
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from fusion.component import Choice, Float, Int
from fusion.tokens import Tokens

_WIDTH = 4  # events the causal convolution sees


class SelectiveStateSpace(nn.Module):
    """h_t = exp(d_t A) h_{t-1} + d_t B_t x_t, y_t = C_t h_t + D x_t, where d, B and C are read from x itself.

    Shape:
        (B, T, D) -> (B, T, D); a later position never changes an earlier one.
    """

    def __init__(self, dim: int, state: int) -> None:
        super().__init__()
        self.state = state
        self.open = nn.Linear(dim, 2 * dim)
        self.local = nn.Conv1d(dim, dim, _WIDTH, groups=dim, padding=_WIDTH - 1)
        self.select = nn.Linear(dim, 2 * state, bias=False)
        self.step = nn.Linear(dim, dim)
        self.log_decay = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(dim, 1))
        self.skip, self.out = nn.Parameter(torch.ones(dim)), nn.Linear(dim, dim)
        # steps start between 0.001 and 0.1, so that some channels remember long and others short
        start = torch.exp(torch.rand(dim) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
        with torch.no_grad():
            self.step.bias.copy_(start + (-(-start).expm1()).log())  # the inverse of softplus

    def forward(self, x: Tensor) -> Tensor:
        """Run over the sequence."""
        x, gate = self.open(x).chunk(2, dim=-1)
        x = functional.silu(self.local(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        step = functional.softplus(self.step(x))
        write, read = self.select(x).chunk(2, dim=-1)
        decay = (-step.unsqueeze(-1) * self.log_decay.exp()).exp()
        states = scan(decay, (step * x).unsqueeze(-1) * write.unsqueeze(2))
        y = torch.einsum("btdn,btn->btd", states, read) + self.skip * x
        return self.out(y * functional.silu(gate))


def scan(decay: Tensor, entry: Tensor) -> Tensor:
    """Solve h_t = decay_t h_{t-1} + entry_t by doubling: log2 T steps of whole tensors instead of T small ones.

    Shape:
        (B, T, ...) twice -> (B, T, ...).

    Reference:
        Hillis, Steele, Data Parallel Algorithms, 1986.
    """
    reach = 1
    while reach < entry.shape[1]:
        earlier = torch.cat([torch.zeros_like(entry[:, :reach]), entry[:, :-reach]], dim=1)
        before = torch.cat([torch.ones_like(decay[:, :reach]), decay[:, :-reach]], dim=1)
        entry, decay = entry + decay * earlier, decay * before
        reach *= 2
    return entry


class CodeMamba(nn.Module):
    """Blocks of a selective state space over all events, oldest first, each with pre-norm and residual.

    Its cost grows with the number of events, not with its square.

    Shape:
        CodeInputs (B, T) -> Tokens (B, T, D).

    Reference:
        Gu, Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces, 2023 (in plain PyTorch, expansion 1);
        on records: Fallahpour et al., EHRMamba, 2024.
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 3)] = 1,
        state: Annotated[int, Choice(4, 8)] = 4,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.embed, self.drop = EventEmbedding(preprocessor, dim), nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.blocks = nn.ModuleList(SelectiveStateSpace(dim, state) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Run over each patient's events."""
        values = self.drop(self.embed(inputs)).masked_fill(~inputs.mask.unsqueeze(-1), 0.0)
        for norm, block in zip(self.norms, self.blocks, strict=True):
            values = values + self.drop(block(norm(values)))
        return Tokens(self.norm(values), inputs.mask)
