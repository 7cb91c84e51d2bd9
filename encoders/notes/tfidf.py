"""A linear control: weighted word counts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.notes.terms import TermInputs, Terms
from fusion.component import Float
from fusion.tokens import Tokens


class NoteTfidf(nn.Module):
    """A linear layer on the main directions of TF-IDF weighted words; one token a patient.

    The control for every other encoder of notes: it knows no order, no time and no negation.

    Shape:
        TermInputs (B, 1) -> Tokens (B, 1, D).

    Reference:
        Deerwester et al., Indexing by Latent Semantic Analysis, 1990 (with TF-IDF weights, and components of equal
        spread).
    """

    preprocessor: ClassVar[type] = Terms

    def __init__(self, preprocessor: Terms, dim: int, *, dropout: Annotated[float, Float(0.0, 0.5)] = 0.1) -> None:
        super().__init__()
        self.adapt = nn.Sequential(nn.Dropout(dropout), nn.Linear(preprocessor.size, dim))

    def forward(self, inputs: TermInputs) -> Tokens:
        """Project each patient's components."""
        return Tokens(self.adapt(inputs.values.masked_fill(~inputs.mask.unsqueeze(-1), 0.0)), inputs.mask)
