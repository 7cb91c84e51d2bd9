"""The computation that a fixed AutoFM architecture and the network of all architectures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusion.autofm.genes import NODES, STEPS, sources
from fusion.autofm.operations import merge, operation
from fusion.layers import AttentionPool
from fusion.model import Fused, one_view
from fusion.tokens import Tokens, clean, present

Shares = Mapping[str, Mapping[Any, Tensor | float]]
"""How much of each gene's choices is computed: by gene and choice, from 0 to 1; a choice not named is left out."""


class Body(nn.Module):
    """Each modality goes through a chain of operations and becomes a vector; nodes merge vectors; their sum decides.

    Several choices of a gene are added up by their shares; with a single one it is an architecture.

    Shape:
        Mapping of M Tokens (B, T_m, D), shares -> Fused with views (B, 1, D), weights (B, 1).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        choices: Mapping[str, Sequence[Any]],
        vectors: str,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pools = nn.ModuleDict({name: AttentionPool(dim) for name in modalities if name in vectors.split()})
        self.choices = nn.ModuleDict()
        for gene, names in choices.items():
            if not isinstance(names[0], bool):
                build = {name: _build(gene, name, dim, heads, dropout) for name in names}
                self.choices[gene] = nn.ModuleDict(build)
        self.project = nn.ModuleDict({name: nn.Linear(dim, dim) for name in modalities})
        self.scale = nn.Parameter(torch.full((NODES,), 1 / NODES))
        self.empty = nn.Parameter(torch.zeros(dim))

    def forward(self, tokens: Mapping[str, Tokens], shares: Shares) -> Fused:
        """Fuse the modalities of each patient into one view."""
        embedded = {name: self._embed(name, tokens[name]) for name in self.modalities}
        states = {name: self._vector(name, embedded, shares) for name in self.modalities}
        has = {name: present(embedded[name].mask).to(self.scale.dtype) for name in self.modalities}
        for node in range(1, NODES + 1):
            names = sources(self.modalities, node)
            values = torch.stack([states[name] for name in names], dim=1)
            edges = [shares[f"node{node}_{name}"].get(True, 0.0) for name in names]
            taken = torch.stack([has[name] * edge for name, edge in zip(names, edges, strict=True)], dim=1)
            states[f"node{node}"] = self._chosen(f"node{node}", shares, values, taken.to(values.dtype))
            has[f"node{node}"] = _any(taken)
        nodes = [f"node{node}" for node in range(1, NODES + 1)]
        there = torch.stack([has[name] for name in nodes], dim=1)
        found = torch.stack([states[name] for name in nodes], dim=1)
        view = torch.einsum("n,bn,bnd->bd", self.scale, there, found.to(there.dtype))
        return one_view(view + (1 - _any(there)).unsqueeze(-1) * self.empty)

    def _embed(self, name: str, tokens: Tokens) -> Tokens:
        tokens = clean(tokens)
        if name not in self.pools:
            return tokens
        return Tokens(self.pools[name](*tokens).unsqueeze(1), present(tokens.mask).unsqueeze(1))

    def _vector(self, name: str, embedded: Mapping[str, Tokens], shares: Shares) -> Tensor:
        """Send a modality through its operations and keep each feature's maximum. Shape: -> (B, D)."""
        tokens = embedded[name]
        for step in range(1, STEPS + 1):
            tokens = clean(Tokens(self._chosen(f"{name}_{step}", shares, tokens, embedded), tokens.mask))
        lowest = torch.finfo(tokens.values.dtype).min
        found = tokens.values.masked_fill(~tokens.mask.unsqueeze(-1), lowest).amax(1)
        found = self.project[name](found.masked_fill(found == lowest, 0.0)).relu()
        return found * present(tokens.mask).unsqueeze(-1)

    def _chosen(self, gene: str, shares: Shares, *inputs: Any) -> Tensor:
        """Add up what the chosen modules of a gene give, by their shares."""
        modules = cast(nn.ModuleDict, self.choices[gene])
        parts = [share * modules[name](*inputs) for name, share in shares[gene].items()]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


def _any(shares: Tensor) -> Tensor:
    """Return how far anything is there at all: 0 or 1 for shares of 0 and 1. Shape: (B, J) -> (B,)."""
    return 1 - (1 - shares).prod(1)


def _build(gene: str, name: str, dim: int, heads: int, dropout: float) -> nn.Module:
    return merge(name, dim) if gene.startswith("node") else operation(name, dim, heads, dropout)
