"""The choices that make an AutoFM architecture: operations of each modality, inputs and merges of each fusion node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusion.component import UsageError, unknown

STEPS = 2
NODES = 3
IDENTITY = "identity"
MERGES = ("sum", "att", "mlp")
ATTEND, MIX = "attend_", "mix_"
Genes = Mapping[str, Any]


def gene_options(modalities: Sequence[str], vectors: str) -> dict[str, tuple[Any, ...]]:
    """Return every gene and what it may be.

    `codes_1` and `codes_2` are the operations that codes go through, one after the other; `node1` is how the first
    fusion node merges its inputs, and `node1_codes` whether codes are among them; later nodes may take earlier ones.
    A vector attends to sequences and mixes with other vectors; a sequence attends to other sequences. Two modalities of
    each kind give 26 genes and 5^4 6^4 2^15 3^3, about 7.2e11, architectures, as in the paper.

    Args:
        modalities: in the order of the model.
        vectors: the names, apart by spaces, of the modalities that are one vector; the others are sequences.
    """
    single = [name for name in modalities if name in vectors.split()]
    sequences = [name for name in modalities if name not in single]
    found: dict[str, tuple[Any, ...]] = {}
    for name in modalities:
        attend = [f"{ATTEND}{other}" for other in sequences if other != name]
        mix = [f"{MIX}{other}" for other in single if other != name] if name in single else []
        own = ["ffn"] if name in single else ["conv", "attention", "rnn", "ffn"]
        for step in range(1, STEPS + 1):
            found[f"{name}_{step}"] = (IDENTITY, *own, *attend, *mix)
    for node in range(1, NODES + 1):
        for source in sources(modalities, node):
            found[f"node{node}_{source}"] = (True, False)
        found[f"node{node}"] = MERGES
    return found


def sources(modalities: Sequence[str], node: int) -> list[str]:
    """Return what a fusion node, counted from 1, may take in: all modalities and all nodes before it."""
    return [*modalities, *(f"node{before}" for before in range(1, node))]


def complete(genes: Genes, modalities: Sequence[str], vectors: str) -> dict[str, Any]:
    """Return a choice for every gene: the given one, or else identity, all inputs, and each kind of merge in turn.

    A node that takes nothing in has no meaning, so it takes everything.

    Raises:
        UsageError: an unknown gene, or a choice that the gene does not have.
    """
    options = gene_options(modalities, vectors)
    for name, value in genes.items():
        if name not in options:
            raise unknown("gene", name, options, "autofm")
        if value not in options[name] or isinstance(value, bool) != isinstance(options[name][0], bool):
            known = ", ".join(str(option) for option in options[name])
            raise UsageError(f"autofm: gene '{name}' must be one of {known}; got {value!r}")
    found = {name: genes.get(name, _default(name, choices)) for name, choices in options.items()}
    for node in range(1, NODES + 1):
        edges = [f"node{node}_{source}" for source in sources(modalities, node)]
        if not any(found[edge] for edge in edges):
            found |= dict.fromkeys(edges, True)
    return found


def canonical(genes: Genes, modalities: Sequence[str], vectors: str) -> dict[str, Any]:
    """Return the one way to write an architecture: all ways to write the same computation become equal.

    Identity comes last in a chain, and a node with a single input sums, because the attention over one input is 1.

    Raises:
        UsageError: an unknown gene, or a choice that the gene does not have.
    """
    found = complete(genes, modalities, vectors)
    for name in modalities:
        chain = [found[f"{name}_{step}"] for step in range(1, STEPS + 1)]
        chain.sort(key=lambda operation: operation == IDENTITY)
        found |= {f"{name}_{step}": each for step, each in enumerate(chain, start=1)}
    for node in range(1, NODES + 1):
        inputs = sum(found[f"node{node}_{source}"] for source in sources(modalities, node))
        if inputs == 1 and found[f"node{node}"] == "att":
            found[f"node{node}"] = "sum"
    return found


def _default(gene: str, choices: tuple[Any, ...]) -> Any:
    if choices == MERGES:
        return MERGES[(int(gene.removeprefix("node")) - 1) % len(MERGES)]
    return choices[0]
