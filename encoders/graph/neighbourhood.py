"""Every patient's own part of the knowledge graph, those of a batch side by side as one big graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from encoders.graph.nodes import IS_A, CodeGraph, GraphInputs

_LAST_DAY = 1 << 20  # almost 3,000 years; keeps a patient and a day in one number


class Neighbours(NamedTuple):
    """The neighbours of each node, up to a fixed number, and by which relation they are reached.

    Shape:
        nodes, relations (N, M) int64; mask (N, M) bool.
    """

    nodes: Tensor
    relations: Tensor
    mask: Tensor


class PatientGraphs(NamedTuple):
    """The graphs of B patients; a node that two patients share is there twice.

    Shape:
        nodes, owners (P,) int64: which node of the knowledge graph, and whose. direct (K,): the place among the P of
        each of the patients' own nodes, row by row as their mask has them. visits (K,): the visit of each of them.
        members, member_visits (Q,): which nodes are around which visit. ages (V,): how many visits of the same
        patient came after. sources, targets, relations (E,): messages between places.
    """

    nodes: Tensor
    owners: Tensor
    direct: Tensor
    visits: Tensor
    members: Tensor
    member_visits: Tensor
    ages: Tensor
    sources: Tensor
    targets: Tensor
    relations: Tensor


def neighbours_of(graph: CodeGraph, most: int) -> Neighbours:
    """List the neighbours of each node up to `most`: what it is a kind of, then by relation and number, its kinds last.

    A group with a thousand members would otherwise be its members only. R + r is the way back of relation r.
    """
    (source, target), kind = graph.typed_edges()
    found: list[list[tuple[int, int, int]]] = [[] for _ in range(graph.size)]
    for near, node, relation in zip(target.tolist(), source.tolist(), kind.tolist(), strict=True):
        found[node].append((_rank(graph.relations, relation), near, relation))
    kept = [sorted(each)[:most] for each in found]
    width = max(1, *(len(each) for each in kept))
    return Neighbours(
        _table([[near for _, near, _ in each] for each in kept], width),
        _table([[relation for _, _, relation in each] for each in kept], width),
        torch.tensor([[i < len(each) for i in range(width)] for each in kept]),
    )


def _rank(relations: Sequence[str], relation: int) -> int:
    count = len(relations)
    if relations[relation % count] == IS_A:
        return 0 if relation < count else 1 + 2 * count
    return 1 + relation


def _table(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64)


def patient_graphs(inputs: GraphInputs, near: Neighbours, relations: int, hops: int) -> PatientGraphs:
    """Surround each visit's nodes by their neighbours up to some hops away, and join a patient's visits.

    A visit is the nodes last seen on one day. An edge that leads outwards carries messages both ways, back by the
    inverse relation; edges between the outermost nodes are left out.

    Shape:
        inputs (B, T); near (N, M); relations: R without inverses -> PatientGraphs.
    """
    size, (row, column) = len(near.mask), inputs.mask.nonzero(as_tuple=True)
    nodes, days = inputs.nodes[row, column], inputs.days[row, column].clamp(0, _LAST_DAY - 1).long()
    when, visits = (row * _LAST_DAY + days).unique(return_inverse=True)  # newest first within a patient
    whose = when // _LAST_DAY
    own = visits * size + nodes
    around, (inner, outer, kind) = _surround(own, near, hops)
    every, members = (whose[around // size] * size + around % size).unique(return_inverse=True)
    inner, outer = (members[torch.searchsorted(around, each)] for each in (inner, outer))
    # a fact that was met from both ends, or in two visits, is still one fact: it is one number, and numbers are unique
    kinds, places = 2 * relations or 1, len(every)
    facts = [(outer * places + inner) * kinds + kind, (inner * places + outer) * kinds + (kind + relations) % kinds]
    both = torch.cat(facts).unique()
    first = torch.searchsorted(whose, whose)
    ages = torch.arange(len(whose), device=whose.device) - first
    direct = members[torch.searchsorted(around, own)]
    sources, targets = both // kinds // places, both // kinds % places
    return PatientGraphs(
        every % size, every // size, direct, visits, members, around // size, ages, sources, targets, both % kinds
    )


def _surround(own: Tensor, near: Neighbours, hops: int) -> tuple[Tensor, Tensor]:
    """Walk outwards from places numbered visit * N + node.

    Shape:
        own (K,) -> places in order (Q,); facts (3, E): from, to, relation.
    """
    size, around, fresh, found = len(near.mask), own, own, []
    for _ in range(hops):
        mask = near.mask[fresh % size]
        inner = fresh.unsqueeze(1).expand_as(mask)[mask]
        outer = inner // size * size + near.nodes[fresh % size][mask]
        found.append(torch.stack([inner, outer, near.relations[fresh % size][mask]]))
        fresh = outer[torch.isin(outer, around, invert=True)].unique()
        around = torch.cat([around, fresh])
    return around.unique(), torch.cat(found, dim=1)
