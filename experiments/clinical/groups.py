"""The groups of held-out patients that a report looks at, and those it cannot say anything about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.contenders import chosen
from experiments.feeding import preparations
from experiments.subgroups import WELL_KNOWN, Groups, by_age, by_codes, by_records, by_site, scorable

if TYPE_CHECKING:
    from experiments.data.store import Store
    from experiments.sections import Findings

_MOST = 30  # groups of an attribute that are named one by one when they are left out


class Group(NamedTuple):
    """Some held-out rows: the attribute they are alike in, and whether all others can be scored too.

    Shape:
        members (N,) bool.
    """

    attribute: str
    name: str
    members: NDArray[np.bool_]
    rest: bool


class LeftOut(NamedTuple):
    """A group that was not looked at, or not held against the rest, and why."""

    attribute: str
    name: str
    patients: str
    reason: str


def attributes(findings: Findings) -> dict[str, Groups]:
    """Return groups by attribute: records, age, site, and codes; who is in none of an attribute's is one more.

    Codes are those that begin with `compare.subgroups`, or else with a well-known prefix.
    """
    store, rows = findings.stores[0], findings.held_out.rows
    architecture = chosen(findings.config).architecture
    plans = list(preparations(architecture, findings.config.data.preprocess).values())
    stated = findings.config.compare.subgroups
    prefixes = WELL_KNOWN if stated is None else {each.strip("/"): (each,) for each in stated}
    codes = by_codes(store, rows, sum(prefixes.values(), ()))
    found: dict[str, Groups] = {"records": by_records(store, rows, plans)}
    for attribute, starts in prefixes.items():
        found[attribute] = {code: here for code, here in codes.items() if code.startswith(starts)}
    found |= {"age": by_age(store, rows), "site": by_site(store, rows)}
    return {name: _with_others(name, groups) for name, groups in found.items() if groups}


def _with_others(attribute: str, groups: Groups) -> Groups:
    others = ~np.any(list(groups.values()), axis=0)
    return {**groups, f"{attribute} not recorded": others} if others.any() else groups


def worth_scoring(
    store: Store, rows: NDArray[np.int64], found: Mapping[str, Groups]
) -> tuple[list[Group], list[LeftOut]]:
    """Separate the groups that can be scored from those that are too small or alike in outcome."""
    kept: list[Group] = []
    left_out: list[LeftOut] = []
    for attribute, groups in found.items():
        mine = scorable(store, rows, groups)
        rest = scorable(store, rows, {name: ~here for name, here in mine.members.items()})
        kept += [Group(attribute, name, here, name in rest.members) for name, here in mine.members.items()]
        lost = [LeftOut(attribute, name, str(count), why) for name, (count, why) in mine.left_out.items()]
        left_out += lost if len(lost) <= _MOST else _summed(attribute, lost)
        for name, (count, why) in rest.left_out.items():
            why = f"only its rest: {why}" if count else "only its rest: everybody is in the group"
            left_out.append(LeftOut(attribute, name, str(count), why))
    return kept, left_out


def _summed(attribute: str, lost: Sequence[LeftOut]) -> list[LeftOut]:
    """Return one line a reason."""
    found = []
    for reason in dict.fromkeys(each.reason for each in lost):
        counts = sorted(int(each.patients) for each in lost if each.reason == reason)
        found.append(LeftOut(attribute, f"{len(counts)} groups", f"{counts[0]} to {counts[-1]} each", reason))
    return found
