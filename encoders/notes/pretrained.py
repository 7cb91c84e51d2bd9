"""Any pretrained language model of transformers, frozen or fine-tuned."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from encoders.notes.subwords import Subwords, load_pretrained
from encoders.notes.words import NoteInputs
from encoders.weights import fetch_pretrained
from fusion.component import Choice, Float
from fusion.tokens import Tokens


class NotePretrained(nn.Module):
    """The last hidden states of a language model, averaged over `stride` neighbours, and a linear layer.

    Frozen, its features are the same every epoch and are computed once.

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
        self.model, self.frozen, self.stride = model, frozen, stride
        self.language = _language(preprocessor, model)
        self.width = int(self.language.config.hidden_size)
        unused = getattr(self.language, "pooler", None)
        if unused is not None:
            self.language.pooler = None  # we read tokens; a pooler would get no gradient
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
        readable = inputs.mask | ~inputs.mask.any(1, keepdim=True)  # an empty row must not divide by zero inside
        found = self.language(input_ids=inputs.ids * inputs.mask, attention_mask=readable.long()).last_hidden_state
        return _average(found.masked_fill(~inputs.mask.unsqueeze(-1), 0.0), inputs.mask, self.stride)


def _language(preprocessor: Subwords, model: str) -> Any:
    if fetch_pretrained():
        return load_pretrained("AutoModel", model, use_safetensors=True, dtype=torch.float32)
    import transformers

    data = json.loads(preprocessor.config)
    return transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**data), dtype=torch.float32)


def _average(values: Tensor, mask: Tensor, stride: int) -> Tokens:
    """Average runs of `stride` neighbours. Shape: (B, T, F) -> (B, ceil(T / stride), F)."""
    extra = -values.shape[1] % stride
    values = nn.functional.pad(values, (0, 0, 0, extra)).unflatten(1, (-1, stride))
    counts = nn.functional.pad(mask, (0, extra)).unflatten(1, (-1, stride)).sum(2)
    return Tokens(values.sum(2) / counts.clamp(min=1).unsqueeze(-1), counts > 0)
