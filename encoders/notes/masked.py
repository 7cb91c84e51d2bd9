"""Masked words: runs of words are hidden from an encoder of notes, and the rest must tell them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.notes.words import NoteInputs, Words
from fusion.component import UsageError
from fusion.model import mean_or_zero

_RUN = 6  # words: about a statement, so that neighbours do not give it away
_HIDDEN = 0  # padding, which nobody reads behind the mask, is a word that is not shown


class HiddenWords(NamedTuple):
    """Notes with runs of words hidden, and which. Shape: inputs of (B, T); asked (B, T) bool."""

    inputs: NoteInputs
    asked: Tensor


def hide_words(inputs: NoteInputs, share: float) -> HiddenWords:
    """Hide runs of six words, about a share of all."""
    starts = (torch.rand(inputs.ids.shape, device=inputs.ids.device) < share / _RUN).float()
    runs = functional.max_pool1d(functional.pad(starts, (_RUN - 1, 0)).unsqueeze(1), _RUN, 1).squeeze(1)
    asked = (runs > 0) & inputs.mask
    return HiddenWords(NoteInputs(inputs.ids.masked_fill(asked, _HIDDEN), inputs.days, inputs.mask), asked)


class MaskedWords(nn.Module):
    """Loss of telling hidden words from an encoder's tokens, each of which stands for `stride` words side by side.

    Shape:
        NoteInputs (B, T) of patients who have notes -> scalar "word".

    Reference:
        Joshi et al., SpanBERT: Improving Pre-training by Representing and Predicting Spans, 2020 (runs of words; here
        of one length, and without its boundary loss).
    """

    def __init__(self, vocabulary: Words, dim: int, share: float, stride: int) -> None:
        super().__init__()
        self.share, self.stride = share, stride
        self.place = nn.Embedding(stride, dim)
        self.word = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim), nn.Linear(dim, vocabulary.size))

    def forward(self, encoder: nn.Module, inputs: NoteInputs) -> dict[str, Tensor]:
        """Hide, encode and ask.

        Raises:
            UsageError: the encoder's tokens do not stand for words.
        """
        hidden = hide_words(inputs, self.share)
        values = encoder(hidden.inputs).values
        if values.shape[1] != -(-inputs.ids.shape[1] // self.stride):
            raise UsageError(
                f"masked words need an encoder with a token for every {self.stride} words, and "
                f"{type(encoder).__name__} gives {values.shape[1]} for {inputs.ids.shape[1]}; take transformer"
            )
        return self.ask(values, inputs, hidden)

    def ask(self, values: Tensor, inputs: NoteInputs, hidden: HiddenWords) -> dict[str, Tensor]:
        """Return the loss of what tokens say. Shape: values (B, ceil(T / stride), D) -> scalar."""
        row, place = hidden.asked.nonzero(as_tuple=True)
        told = self.word(values[row, place // self.stride] + self.place(place % self.stride))
        return {"word": mean_or_zero(functional.cross_entropy(told.float(), inputs.ids[row, place], reduction="none"))}
