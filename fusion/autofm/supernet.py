"""The network that holds every AutoFM architecture at once, with shares that decide between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.autofm.body import Body, Shares
from fusion.autofm.fusion import VECTORS
from fusion.autofm.genes import NODES, gene_options
from fusion.model import Fused
from fusion.tokens import Tokens

START = 1e-3  # every architecture parameter, so that all choices begin with equal shares


class AutoFMSupernet(nn.Module):
    """All operations, inputs and merges side by side, each with the softmax of its architecture parameter as its share.

    The architecture parameters are no weights: they are in `alpha`, a gene each, outside of the module's parameters,
    and whoever searches trains them. A choice can be removed for good; the last input of a node cannot. With a `path`
    only one architecture is computed (single-path one-shot).

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Reference:
        Cui et al., AutoFM, 2024; Liu et al., DARTS: Differentiable Architecture Search, 2019; Guo et al., Single Path
        One-Shot Neural Architecture Search with Uniform Sampling, 2020.
    """

    def __init__(
        self, modalities: Sequence[str], dim: int, *, vectors: str = VECTORS, heads: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.modalities, self.vectors = tuple(modalities), vectors
        self.options = gene_options(modalities, vectors)
        self.body = Body(modalities, dim, self.options, vectors, heads, dropout)
        self.alpha = {gene: torch.full((len(names),), START) for gene, names in self.options.items()}
        self.left = {gene: list(names) for gene, names in self.options.items()}
        self.path: Mapping[str, Any] | None = None

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse with all architectures that are left, by their shares, or with the one of the path."""
        return self.body(tokens, self._shares())

    def undecided(self) -> list[str]:
        """Return the genes that have more than one choice left."""
        return [gene for gene, names in self.left.items() if len(names) > 1]

    def removable(self, gene: str) -> list[Any]:
        """Return the choices of a gene that may go; the last input of a node has to stay."""
        if gene.startswith("node") and "_" in gene and self._only_input(gene):
            return [False]
        return list(self.left[gene])

    def remove(self, gene: str, choice: Any) -> None:
        """Take a choice out for good."""
        self.left[gene] = [name for name in self.left[gene] if name != choice]

    @contextmanager
    def without(self, gene: str, choice: Any) -> Iterator[None]:
        """Leave a choice out for a while."""
        before = self.left[gene]
        self.remove(gene, choice)
        try:
            yield
        finally:
            self.left[gene] = before

    def genes(self) -> dict[str, Any]:
        """Return the choice of each gene that has the largest share."""
        shares = {gene: self._softmax(gene).tolist() for gene in self.left}
        return {gene: self.left[gene][each.index(max(each))] for gene, each in shares.items()}

    def entropy(self) -> float:
        """Return how undecided the shares are: 1 where all are equal, 0 where each gene has decided.

        Genes that have nothing left to decide do not count.
        """
        found = []
        for gene in self.undecided():
            shares = self._softmax(gene).detach()
            found.append(float(-(shares * shares.log()).sum() / torch.tensor(float(len(shares))).log()))
        return sum(found) / max(1, len(found))

    def diversity(self) -> Tensor:
        """Return how differently the nodes choose among the raw modalities; larger is more different, or less sure.

        The sum over pairs of nodes, a node with itself included, of the cross-entropy between the shares with which
        they take each modality, where the second node is held fixed. AutoFM subtracts a tenth of it from the loss.
        """
        inputs = torch.stack(
            [
                torch.stack([self._share(f"node{node}_{name}", True) for name in self.modalities])
                for node in range(1, NODES + 1)
            ]
        ).clamp(1e-6, 1 - 1e-6)
        pairs = [
            functional.binary_cross_entropy(inputs[i], inputs[k].detach()) for i in range(NODES) for k in range(NODES)
        ]
        return torch.stack(pairs).sum()

    def _only_input(self, edge: str) -> bool:
        node = edge.partition("_")[0]
        others = [gene for gene in self.left if gene.startswith(f"{node}_") and gene != edge]
        return not any(True in self.left[gene] for gene in others)

    def _shares(self) -> Shares:
        if self.path is not None:
            return {gene: {choice: 1.0} for gene, choice in self.path.items()}
        device = self.body.empty.device
        return {
            gene: dict(zip(names, self._softmax(gene).to(device).unbind(), strict=True))
            for gene, names in self.left.items()
        }

    def _softmax(self, gene: str) -> Tensor:
        """Return the shares of the choices that are left."""
        places = [self.options[gene].index(name) for name in self.left[gene]]
        return self.alpha[gene][places].softmax(0)

    def _share(self, gene: str, choice: Any) -> Tensor:
        if choice not in self.left[gene]:
            return self.alpha[gene].new_zeros(())
        return self._softmax(gene)[self.left[gene].index(choice)]


def fixed(supernet: AutoFMSupernet) -> dict[str, Any]:
    """Return the hyperparameters of the `autofm` fusion that a supernet has decided on."""
    return {"genes": supernet.genes()} | ({} if supernet.vectors == VECTORS else {"vectors": supernet.vectors})
