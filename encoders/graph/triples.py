"""Vectors of nodes learned from the facts of the knowledge graph alone, before any patient is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional

from fusion.component import unknown

PRETRAINING = ("none", "transe", "distmult")
_WIDTH = 32
_NEGATIVES = 8  # wrong facts beside each right one
_MARGIN = 1.0
_MOST_STEPS = 2000  # half a minute at most, however many facts there are
_DIGITS = 4


class TripleModel(NamedTuple):
    """A trained model of facts. Shape: nodes (N, W), relations (R, W)."""

    kind: str
    nodes: Tensor
    relations: Tensor

    def score(self, edges: Tensor) -> Tensor:
        """Tell how likely facts are, higher is likelier. Shape: (..., 3) int64 of head, tail, relation -> (...)."""
        head, tail, kind = edges.unbind(-1)
        first, second = functional.embedding(head, self.nodes), functional.embedding(tail, self.nodes)
        link = functional.embedding(kind, self.relations)
        if self.kind == "transe":
            return -(first + link - second).norm(dim=-1)
        return (first * link * second).sum(-1)


def train_triples(
    kind: str, edges: Tensor, nodes: int, relations: int, *, epochs: int = 40, batch: int = 512, seed: int = 0
) -> TripleModel:
    """Train TransE or DistMult on facts (E, 3) against facts with a random head or tail.

    TransE: a relation leads from head to tail, |h + r - t| is small; margin loss, nodes of length one.
    DistMult: sum of h * r * t is large; logistic loss, small weight decay.

    Reference:
        Bordes et al., Translating Embeddings for Modeling Multi-relational Data, 2013; Yang et al., Embedding
        Entities and Relations for Learning and Inference in Knowledge Bases, 2015 (both here by Adam, for a fixed
        number of epochs, with wrong facts that are not checked against the right ones).
    """
    dice = torch.Generator().manual_seed(seed)  # its own, so that pre-training moves no other seed
    scale = _WIDTH**-0.5
    table = (torch.randn(nodes, _WIDTH, generator=dice) * scale).requires_grad_()
    links = (torch.randn(relations, _WIDTH, generator=dice) * scale).requires_grad_()
    decay = 0.0 if kind == "transe" else 1e-5
    optimizer = torch.optim.Adam([table, links], lr=0.02, weight_decay=decay)
    model = TripleModel(kind, table, links)
    for _ in range(min(epochs, 1 + _MOST_STEPS * batch // max(1, len(edges)))):
        for rows in torch.randperm(len(edges), generator=dice).split(batch):
            loss = _loss(model, edges[rows], _corrupt(edges[rows], nodes, dice))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if kind == "transe":  # else the margin is won by growing
                with torch.no_grad():
                    table.copy_(functional.normalize(table, dim=1))
    return TripleModel(kind, table.detach(), links.detach())


def _corrupt(edges: Tensor, nodes: int, dice: torch.Generator) -> Tensor:
    """Replace the head or the tail at random. Shape: (E, 3) -> (E, K, 3)."""
    wrong = edges.unsqueeze(1).repeat(1, _NEGATIVES, 1)
    side = torch.randint(2, (*wrong.shape[:2], 1), generator=dice)
    return wrong.scatter(2, side, torch.randint(nodes, side.shape, generator=dice))


def _loss(model: TripleModel, right: Tensor, wrong: Tensor) -> Tensor:
    good, bad = model.score(right).unsqueeze(1), model.score(wrong)
    if model.kind == "transe":
        return (_MARGIN - good + bad).clamp(min=0).mean()
    return functional.softplus(-good).mean() + functional.softplus(bad).mean()


@dataclass(frozen=True)
class NodeVectors:
    """Vectors of nodes learned from facts, rounded so that they are small as JSON and the same everywhere.

    Shape:
        rows: N lists of numbers; none without pre-training.
    """

    kind: str = "none"
    rows: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def fit(cls, kind: str, edges: Sequence[tuple[int, int, int]], nodes: int, relations: int) -> Self:
        """Train on all facts between nodes; there is nothing to learn without any.

        Raises:
            UsageError: there is no such pre-training.
        """
        if kind not in PRETRAINING:
            raise unknown("value", kind, PRETRAINING, "pretraining")
        if kind == "none" or not edges:
            return cls(kind)
        trained = train_triples(kind, torch.tensor(edges), nodes, relations).nodes
        spread = trained.std().clamp(min=1e-6)  # of one size, whichever model they come from
        return cls(kind, tuple(tuple(round(x, _DIGITS) for x in row) for row in (trained / spread).tolist()))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {"kind": self.kind, "rows": [list(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        return cls(data["kind"], tuple(tuple(float(x) for x in row) for row in data["rows"]))
