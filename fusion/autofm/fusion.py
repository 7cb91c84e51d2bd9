"""AutoFM fusion: one architecture of AutoFM's space, as its genes describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from torch import nn

from fusion.autofm.body import Body
from fusion.autofm.genes import canonical, complete, gene_options
from fusion.component import Choice, Float, Genome, UsageError
from fusion.model import Fused
from fusion.tokens import Tokens

VECTORS = "images graph"
"""The modalities that are one vector unless told otherwise; the others are sequences."""


def genome(modalities: Sequence[str], settings: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the genes that a search chooses, for the modalities and other settings of an architecture.

    Raises:
        UsageError: the settings leave open which modalities are vectors; what the genes may be depends on it.
    """
    vectors = settings.get("vectors", VECTORS)
    if not isinstance(vectors, str):
        raise UsageError(f"autofm.vectors decides what the genes may be, so pin one value; got {vectors!r}")
    return gene_options(modalities, vectors)


def settled(genes: Mapping[str, Any], modalities: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the genes as the one way to write their architecture, so that equal ones are recognised."""
    return canonical(genes, modalities, str(settings.get("vectors", VECTORS)))


class AutoFMFusion(nn.Module):
    """Two operations a modality, of which some interact with others, then three nodes that choose what they merge.

    The genes are the architecture: see `gene_options`. Interactions always read the other modality's embedding, so
    modalities do not wait for each other. Differs from the published network where its convolution normalises over the
    batch: here each token is normalised by itself, so that a patient's answer does not depend on the others.

    Missing:
        Who lacks a modality is not changed by interacting with it; a node merges those present, and a node with none
        is left out. A learned view decides for a patient with nothing.

    Shape:
        Mapping of M Tokens (B, T_m, D) -> Fused with views (B, 1, D), weights (B, 1).

    Raises:
        UsageError: an unknown gene, or a choice that the gene does not have.

    Reference:
        Cui et al., Automated Fusion of Multimodal Electronic Health Records for Better Medical Predictions (AutoFM),
        2024.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        dim: int,
        *,
        genes: Annotated[Mapping[str, Any] | None, Genome(genome, settled)] = None,
        vectors: str = VECTORS,
        heads: Annotated[int, Choice(2, 4, searched=False)] = 2,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.genes = complete(genes or {}, modalities, vectors)
        self.body = Body(
            modalities, dim, {name: (value,) for name, value in self.genes.items()}, vectors, heads, dropout
        )

    def forward(self, tokens: Mapping[str, Tokens]) -> Fused:
        """Fuse the modalities of each patient into one view."""
        return self.body(tokens, {name: {value: 1.0} for name, value in self.genes.items()})
