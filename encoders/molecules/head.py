"""A head that scores drugs by their molecules: as a whole, and by the groups they are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoders.molecules.groups import groups_of
from encoders.molecules.smiles import Molecule, parse_smiles
from fusion.component import Int, UsageError


class MoleculeHead(nn.Module):
    """The patient's match with each drug as a whole, times a score of the groups that the drug is made of.

    Whole: atoms, told apart by their surroundings, pass messages along bonds; a drug is the mean of its molecules, each
    the sum of its atoms; matches m = sigmoid(x . drug) become LayerNorm(m + Linear(m)). Groups: x says how much each is
    wanted, and a drug sums, by weights of its own, those that its molecules have. A label without a known molecule has
    a learned vector as its drug, and a group that is its own.

    Shape:
        patient vectors (..., D) -> logits (..., K); molecules: of each of K labels its SMILES, maybe none.

    Raises:
        UsageError: there are not as many lists of molecules as outputs, or one cannot be read.

    Reference:
        Yang et al., SafeDrug: Dual Molecular Graph Encoders for Recommending Effective and Safe Drug Combinations,
        2021. There every drug has a molecule, and substructures are BRICS fragments; here they are functional groups,
        drugs are normalised, and products of vectors are scaled by their width.
    """

    def __init__(
        self,
        dim: int,
        outputs: int,
        *,
        molecules: Sequence[Sequence[str]] = (),
        layers: Annotated[int, Int(1, 3)] = 2,
    ) -> None:
        super().__init__()
        if len(molecules) != outputs:
            raise UsageError(
                f"head 'molecules' needs a list of molecules for each of {outputs} labels; got {len(molecules)}"
            )
        self.molecules = [list(each) for each in molecules]
        unknown = [place for place, each in enumerate(molecules) if not each]
        self._graphs([(label, text) for label, each in enumerate(molecules) for text in each], unknown)
        self.atom = nn.Embedding(max(1, self.kinds), dim)
        self.steps = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.without = nn.Parameter(torch.randn(len(unknown), dim))
        self.mix, self.norm = nn.Linear(outputs, outputs), nn.LayerNorm(outputs)
        nn.init.ones_(self.norm.bias)  # a factor around 1 to begin with; around 0, signs would have to be found first
        self.wanted = nn.Linear(dim, self.mask.shape[1])
        self.groups = nn.Linear(self.mask.shape[1], outputs)

    atoms: Tensor
    bonds: Tensor
    molecule: Tensor
    label: Tensor
    unknown: Tensor
    mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Score every drug for every vector."""
        match = torch.sigmoid(x @ self.drugs().T / math.sqrt(x.shape[-1]))
        whole = self.norm(match + self.mix(match))
        parts = torch.sigmoid(self.wanted(x))
        return whole * functional.linear(parts, self.groups.weight * self.mask, self.groups.bias)

    def drugs(self) -> Tensor:
        """Return the vector of each label's drug. Shape: -> (K, D)."""
        h = self.atom(self.atoms)
        first, second = self.bonds
        for step in self.steps:
            h = torch.relu(step(h))
            h = h.index_add(0, first, h[second])
        whole = h.new_zeros(len(self.label), h.shape[1]).index_add(0, self.molecule, h)
        count = torch.bincount(self.label, minlength=len(self.mask)).clamp(min=1)
        found = h.new_zeros(len(self.mask), h.shape[1]).index_add(0, self.label, whole) / count[:, None]
        found = found.index_add(0, self.unknown, self.without.to(found.dtype))
        return functional.layer_norm(found, found.shape[1:])

    def _graphs(self, found: Sequence[tuple[int, str]], unknown: Sequence[int]) -> None:
        """Number atoms by their surroundings, and lay out what is bound and which label has which group."""
        graphs = [parse_smiles(text) for _, text in found]
        named = [_surroundings(graph) for graph in graphs]
        number = {name: i for i, name in enumerate(sorted({name for each in named for name in each}))}
        starts = torch.tensor([0, *(len(each) for each in named)]).cumsum(0).tolist()
        bonds = [
            (start + a, start + b)
            for start, graph in zip(starts, graphs, strict=False)
            for one, other, _ in graph.bonds
            for a, b in ((one, other), (other, one))
        ]
        of_molecule = [i for i, each in enumerate(named) for _ in each]
        self.kinds = len(number)
        layout = {
            "atoms": [number[name] for each in named for name in each],
            "molecule": of_molecule,
            "label": [label for label, _ in found],
            "unknown": list(unknown),
        }
        for name, numbers in layout.items():
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("bonds", torch.tensor(bonds, dtype=torch.int64).reshape(-1, 2).T, persistent=False)
        self.register_buffer("mask", _mask(self.molecules), persistent=False)


def _surroundings(molecule: Molecule) -> list[str]:
    """Name each atom by its element and what it is bound to."""
    near = molecule.neighbours()
    return [
        f"{atom}({','.join(sorted(order + molecule.atoms[other] for other, order in bound))})"
        for atom, bound in zip(molecule.atoms, near, strict=True)
    ]


def _mask(molecules: Sequence[Sequence[str]]) -> Tensor:
    """Return which label has which group; one without any has a group of its own. Shape: -> (K, G)."""
    has = [
        sorted({name for text in each for name in groups_of(text)}) or [f"label {i}"]
        for i, each in enumerate(molecules)
    ]
    names = sorted({name for each in has for name in each})
    return torch.tensor([[float(name in each) for name in names] for each in has])
