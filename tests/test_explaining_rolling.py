"""Edges of few patients are told together with others that lead to the same code, and never those of fewer than ten."""

from __future__ import annotations

import numpy as np

from experiments.explaining.explained import Explained
from experiments.explaining.rolling import RARER
from experiments.explaining.tally import LEAST, Tally

NAMES = {
    0: ("E78.1", "is_a", "E78"),
    1: ("E78.2", "is_a", "E78"),
    2: ("E78.3", "is_a", "E78"),
    3: ("I10.0", "is_a", "I10"),
    4: ("E78", "is_a", "E"),
    5: ("I10", "is_a", "E"),
    6: ("E78.1", "treated_by", "C10"),
}


def tally_of(edges: dict[int, range], value: float = 1.0) -> Tally:
    tally = Tally()
    for edge, people in edges.items():
        ones = np.ones((len(people), 1))
        tally.add(np.full((len(people), 1), edge), ones > 0, value * ones, list(people))
    return tally


def told(tally: Tally, links: str = "edges") -> dict[tuple[str, ...], tuple[int, float]]:
    rows, _ = Explained("graph", "", NAMES, links=links, items=tally).found
    return {each.name: (each.patients, each.mean) for each in rows if isinstance(each.name, tuple)}


def test_rare_edges_are_told_together_by_what_they_lead_to() -> None:
    tally = tally_of({0: range(4), 1: range(4, 8), 2: range(6, 12), 4: range(40)})
    assert told(tally) == {(RARER, "is_a", "E78"): (12, 1.0), NAMES[4]: (40, 1.0)}
    assert told(tally, "ancestors") == {NAMES[4]: (40, 1.0)}
    assert len(tally.people) == 4  # as it was


def test_what_is_frequent_enough_stands_for_itself() -> None:
    tally = tally_of({0: range(LEAST), 1: range(4), 2: range(4, 9)})
    assert told(tally) == {NAMES[0]: (LEAST, 1.0)}  # the other two have nine, and nobody above them has a tenth


def test_too_few_go_further_up_and_stay_untold_at_the_top() -> None:
    below = tally_of({0: range(4), 3: range(4, 8), 5: range(8, 11)})
    assert told(below) == {(RARER, "is_a", "E"): (11, 1.0)}
    assert told(tally_of({0: range(4), 3: range(4, 8)})) == {}
    assert told(tally_of({6: range(9)})) == {}  # another relation leads nowhere further


def test_a_share_is_of_all_and_what_is_left_is_counted() -> None:
    rows, others = Explained(
        "graph", "", NAMES, links="edges", items=tally_of({0: range(6), 1: range(6, 12), 6: range(4)})
    ).found
    assert [each.share for each in rows] == [12 / 16]
    assert others == 1


def test_a_circle_ends() -> None:
    circle = {0: ("A", "is_a", "B"), 1: ("B", "is_a", "A")}
    rows, others = Explained("graph", "", circle, links="edges", items=tally_of({0: range(3), 1: range(3)})).found
    assert rows == []
    assert others == 1
