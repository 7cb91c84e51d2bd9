"""What an ontology is here: facts and names read piece by piece, and how a folder's codes are spelled in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

IS_A = "is_a"
FACTS = {"head": pl.String, "relation": pl.String, "tail": pl.String}
NAMES = {"code": pl.String, "description": pl.String}


class Piece(NamedTuple):
    """Some facts (head, relation, tail; `is_a` from child to parent) and names (code, description) of nodes."""

    facts: pl.DataFrame
    names: pl.DataFrame


Read = Callable[[Collection[str]], Iterator[Piece]]


@dataclass(frozen=True)
class Ontology:
    """A graph of codes by name.

    Args:
        source: where it is from, with its version.
        licence: on what terms.
        example: what a code of it looks like, for messages.
        read: yields it in pieces, each time it is called; it is told the spellings a folder might mean by its codes.
        spellings: the nodes that a folder's code may be, the best first; none where the code is of another kind.
        owns: vocabularies (`ICD10CM`) whose hierarchy is this one's to say.
        kinds: what its ids begin with (`HP`), filled while it is read, where spellings take any text for a code; a
            code of another beginning is not missed. None where every spelling is one of its codes.
        one_way: facts count for their heads only, as of a crosswalk: nobody asks for all that leads to a code.
        notes: what a reader should know, filled while it is read.
        why: why a code that could be spelled is none of its nodes, where it says so.
    """

    name: str
    source: str
    licence: str
    example: str
    read: Read
    spellings: Callable[[str], Iterable[str]]
    owns: tuple[str, ...] = ()
    kinds: set[str] | None = None
    one_way: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)

    def misses(self, spelled: Sequence[str]) -> bool:
        """Tell whether a code that may be spelled so, but is no node, should be one."""
        if self.kinds is None:
            return bool(spelled)
        return any(":" in text and text.partition(":")[0] in self.kinds for text in spelled)


def piece(facts: Iterable[tuple[str, str, str]], names: Iterable[tuple[str, str]] = ()) -> Piece:
    """Make a piece of plain rows."""
    return Piece(
        pl.DataFrame(list(facts), schema=FACTS, orient="row"), pl.DataFrame(list(names), schema=NAMES, orient="row")
    )


def at_once(found: Callable[[], Piece]) -> Read:
    """Read an ontology that is small enough to be one piece, once however often it is asked for."""
    kept: list[Piece] = []

    def read(_: Collection[str]) -> Iterator[Piece]:
        if not kept:
            kept.append(found())
        yield kept[0]

    return read
