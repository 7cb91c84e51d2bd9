"""Any pretrained language model of transformers, frozen or fine-tuned."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import nn

from encoders.notes.language import average, load_language, read_windows
from encoders.notes.subwords import Subwords
from encoders.notes.words import NoteInputs
from fusion.component import Choice, Float
from fusion.tokens import Tokens


class NotePretrained(nn.Module):
    """The last hidden states of a language model, averaged over `stride` neighbours, and a linear layer.

    A text longer than the model can read is read in windows. Frozen, its features are the same every epoch and are
    computed once.

    Shape:
        NoteInputs (B, T) or cached features Tokens (B, ceil(T / stride), F) -> Tokens (B, ceil(T / stride), D).

    Raises:
        UsageError: the model cannot be loaded.

    Reference:
        Huang, Altosaar, Ranganath, ClinicalBERT, 2019 (notes through a pretrained encoder); any transformers model.
    """

    preprocessor: ClassVar[type] = Subwords

    def __init__(
        self,
        preprocessor: Subwords,
        dim: int,
        *,
        model: str = "emilyalsentzer/Bio_ClinicalBERT",
        frozen: bool = True,
        stride: Annotated[int, Choice(4, 8, 16)] = 8,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.model, self.frozen, self.stride, self.window = model, frozen, stride, preprocessor.window
        self.language = load_language(preprocessor, model)
        self.width = int(self.language.config.hidden_size)
        self.language.requires_grad_(not self.frozen)
        self.adapt = nn.Sequential(nn.LayerNorm(self.width), nn.Dropout(dropout), nn.Linear(self.width, dim))

    def backbone(self) -> nn.Module:
        """Return the language model, whose weights a frozen encoder's cache is keyed by."""
        return self.language

    def features(self, inputs: NoteInputs) -> Tokens:
        """Return averaged hidden states without gradients. Shape: (B, T) -> Tokens (B, ceil(T / stride), F)."""
        self.language.eval()
        with torch.no_grad():
            return self._hidden(inputs)

    def forward(self, inputs: NoteInputs | Tokens) -> Tokens:
        """Encode each patient's notes, or adapt features computed before."""
        if not isinstance(inputs, Tokens):
            inputs = self.features(inputs) if self.frozen else self._hidden(inputs)
        return Tokens(self.adapt(inputs.values), inputs.mask)

    def _hidden(self, inputs: NoteInputs) -> Tokens:
        states = read_windows(self.language, inputs.ids, inputs.mask, self.window)
        return average(states, inputs.mask, self.stride)
