"""A hierarchical transformer: events attend within their visit, visits attend to each other."""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import nn

from encoders.codes.embedding import EventEmbedding
from encoders.codes.visits import find_visits, mean_by_visit
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary
from encoders.time import TimeEncoding
from fusion.component import Choice, Float, Int
from fusion.layers import Block
from fusion.tokens import Tokens


class VisitTransformer(nn.Module):
    """Blocks among the events of one visit, mean over the visit, then blocks among visits with their times.

    Shape:
        CodeInputs (B, T) -> Tokens (B, S, D), a token a visit.

    Reference:
        Li et al., Hi-BEHRT: Hierarchical Transformer-based Model for Accurate Prediction of Clinical Events Using
        Multimodal Longitudinal Electronic Health Records, 2023 (there over overlapping windows; here over visits cut
        at the largest gaps).
    """

    preprocessor: ClassVar[type] = CodeVocabulary

    def __init__(
        self,
        preprocessor: CodeVocabulary,
        dim: int,
        *,
        layers: Annotated[int, Int(1, 2)] = 1,
        visits: Annotated[int, Int(4, 32, log=True)] = 16,
        heads: Annotated[int, Choice(1, 2, 4)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.visits = visits
        self.embed, self.drop = EventEmbedding(preprocessor, dim), nn.Dropout(dropout)
        self.within, self.between = (nn.ModuleList(Block(dim, heads, dropout) for _ in range(layers)) for _ in range(2))
        self.time, self.norm = TimeEncoding(dim), nn.LayerNorm(dim)

    def forward(self, inputs: CodeInputs) -> Tokens:
        """Encode each patient's visits."""
        visits = find_visits(inputs, self.visits)
        together = visits.group.unsqueeze(1) == visits.group.unsqueeze(2)
        values = self.drop(self.embed(inputs))
        for block in self.within:
            values = block(values, inputs.mask.unsqueeze(1) & together)
        values, mask = mean_by_visit(values, inputs.mask, visits.group, visits.mask.shape[1])
        values = values + self.time(visits.days, mask)
        for block in self.between:
            values = block(values, mask)
        return Tokens(self.norm(values), mask)
