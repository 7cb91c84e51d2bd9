"""Edges of few patients put together by the code they lead to, so that what many of them say together is told."""

from __future__ import annotations

from collections.abc import Mapping

from encoders.graph.nodes import IS_A
from experiments.explaining.tally import LEAST, Name, Tally

RARER = "rarer codes below it"


def roll_up(tally: Tally, names: Mapping[int, Name]) -> tuple[Tally, dict[int, Name]]:
    """Put `is_a` edges of fewer than ten patients together by their upper end, and further up until there are ten.

    Where even the code that has none above it is reached by fewer, they stay untold. Of what is put together, mean and
    size are over edges and patients.

    Args:
        tally: of edges; it is not changed.
        names: head, relation and tail of each edge.
    """
    above: dict[str, str] = {}
    groups: dict[str, set[int]] = {}
    for item, name in names.items():
        if not isinstance(name, tuple) or name[1] != IS_A:
            continue
        above.setdefault(name[0], name[2])
        if 0 < len(tally.people.get(item, ())) < LEAST:
            groups.setdefault(name[2], set()).add(item)
    for tail in sorted({*groups, *above.values()}, key=lambda each: (-_height(each, above), each)):
        items = groups.get(tail, set())
        people = set[int]().union(*(tally.people[item] for item in items))
        if len(people) < LEAST and tail in above:
            groups.setdefault(above[tail], set()).update(groups.pop(tail, set()))
    numbered = {-number: tail for number, tail in enumerate(sorted(groups), start=1)}
    rolled = tally.joined({number: groups[tail] for number, tail in numbered.items()})
    return rolled, dict(names) | {number: (RARER, IS_A, tail) for number, tail in numbered.items()}


def _height(node: str, above: Mapping[str, str]) -> int:
    """Count the codes above a node; a circle is gone round once."""
    seen: set[str] = set()
    while node in above and node not in seen:
        seen.add(node)
        node = above[node]
    return len(seen)
