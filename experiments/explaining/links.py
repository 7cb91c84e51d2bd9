"""Integrated gradients along a graph: which edges, or which ancestors, of the knowledge graph a prediction rests on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoders.graph.nodes import IS_A, CodeGraph
from encoders.graph.ontology import climb, group
from experiments.explaining.attribution import (
    MOST_STEPS,
    Attribution,
    Unattributable,
    integrated,
    logits_with,
    others_of,
)
from fusion import FusionModel, Tokens

STEPS = 8
"""Points of the path to begin with: a graph is passed through once a patient and point."""
BELOW = "codes below it"


def explained_by(encoder: Any) -> str:
    """Return what an encoder can be gated by: `edges`, `ancestors`, or nothing."""
    return str(getattr(encoder, "explained_by", ""))


def attribute_links(
    model: FusionModel, inputs: Mapping[str, Any], graph: CodeGraph, output: int, most: int = MOST_STEPS
) -> Attribution:
    """Return how much each edge of the graph, or each ancestor, moves one logit of each patient.

    A patient's attributions add up to the logit minus that of the same patient when no message passes along any edge,
    or no code hears of its ancestors; what the codes themselves say, and other modalities, stays as it is.

    Args:
        inputs: of patients who all have codes in the graph.

    Shape:
        values (B, L), edges in the order of `graph.linked`, ancestors by their number.

    Raises:
        Unattributable: the encoder passes nothing along edges, or the graph has none.
        UsageError: captum is not installed.
    """
    encoder: Any = model.encoders["graph"]
    count = {"edges": len(graph.linked), "ancestors": graph.size}.get(explained_by(encoder), 0)
    if not count or not graph.linked:
        raise Unattributable
    mine, others = inputs["graph"], others_of(model, inputs, "graph")

    def logit(gates: Tensor, patients: Tensor) -> Tensor:
        # gates are one patient's own, and the graph is the same for all who are encoded together
        parts = [
            encoder(type(mine)(*(part[row : row + 1] for part in mine)), gate)
            for gate, row in zip(gates, patients.tolist(), strict=True)
        ]
        tokens = Tokens(torch.cat([each.values for each in parts]), torch.cat([each.mask for each in parts]))
        return logits_with(model, tokens, others, "graph", patients)[:, output]

    return integrated(logit, mine.mask.new_ones(len(mine.mask), count, dtype=torch.float32), STEPS, most)


def link_names(graph: CodeGraph, kind: str) -> dict[int, tuple[str, ...]]:
    """Return head, relation and tail of each edge, or of what codes hear of each ancestor."""
    if kind == "ancestors":
        return {parent: (BELOW, IS_A, graph.nodes[parent]) for parent in sorted({up for _, up in graph.parents})}
    facts = defaultdict(list)
    for head, tail, relation in graph.edges:
        if head != tail:
            facts[min(head, tail), max(head, tail)].append((head, graph.relations[relation], tail))
    names: dict[int, tuple[str, ...]] = {}
    for number, pair in enumerate(graph.linked):
        head, _, tail = facts[pair][0]  # a second fact of the same two nodes is the same gate
        names[number] = (graph.nodes[head], " and ".join(each[1] for each in facts[pair]), graph.nodes[tail])
    return names


def reached(graph: CodeGraph, kind: str, nodes: Tensor, mask: Tensor) -> NDArray[np.bool_]:
    """Tell which edges or ancestors are above patients' codes, so that a few patients' own edges are not told of.

    An `is_a` edge is reached by who has its lower end or a code below that, another by who has either end or a code
    below it, an ancestor by who has a code below it.

    Shape:
        nodes, mask (B, T) -> (B, L).
    """
    up = group(graph.parents)
    above = np.zeros((len(nodes), graph.size), bool)
    strictly = np.zeros_like(above)
    for row, numbers in enumerate(nodes.cpu().numpy()):
        own = numbers[mask[row].cpu().numpy()].tolist()
        above[row, climb(own, up)] = True
        strictly[row, climb([parent for node in own for parent in up.get(node, ())], up)] = True
    if kind == "ancestors":
        return strictly
    found = np.zeros((len(nodes), len(graph.linked)), bool)
    number = {pair: place for place, pair in enumerate(graph.linked)}
    for head, tail, relation in graph.edges:
        if head != tail:
            either = above[:, head] if graph.relations[relation] == IS_A else above[:, head] | above[:, tail]
            found[:, number[min(head, tail), max(head, tail)]] |= either
    return found
