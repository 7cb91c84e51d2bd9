"""Graphs of molecules from SMILES, without any library: what the formulae of drugs are made of."""

from __future__ import annotations

import re
from typing import NamedTuple

from fusion.component import UsageError

_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOPSFI]|[bcnops]|[-=#:/\\]|[().]|%\d\d|\d")
_BRACKET = re.compile(r"\[\d*([A-Z][a-z]?|[bcnops]|se|as)[^\]]*\]")
_ORDERS = {"-": "-", "/": "-", "\\": "-", "=": "=", "#": "#", ":": ":"}


class Molecule(NamedTuple):
    """Heavy atoms by element, in lower case where aromatic, and the bonds between them: `-`, `=`, `#` or `:`.

    Hydrogens, charges, isotopes and the arrangement in space are left out.
    """

    atoms: tuple[str, ...]
    bonds: tuple[tuple[int, int, str], ...]

    def neighbours(self) -> list[list[tuple[int, str]]]:
        """Return what each atom is bound to, and how."""
        found: list[list[tuple[int, str]]] = [[] for _ in self.atoms]
        for first, second, order in self.bonds:
            found[first].append((second, order))
            found[second].append((first, order))
        return found


def parse_smiles(text: str) -> Molecule:
    """Read a molecule.

    Aromatic rings are those written in lower case; one written with alternating double bonds has these.

    Examples:
        >>> parse_smiles("CC(=O)O").bonds
        ((0, 1, '-'), (1, 2, '='), (1, 3, '-'))

    Raises:
        UsageError: it is no SMILES.

    Reference:
        Weininger, SMILES, a Chemical Language and Information System, 1988.
    """
    atoms: list[str] = []
    bonds: list[tuple[int, int, str]] = []
    branches: list[int | None] = []
    rings: dict[str, tuple[int, str]] = {}
    before: int | None = None
    order = ""
    for token in _tokens(text):
        if token in _ORDERS:
            order = _ORDERS[token]
        elif token == "(":
            branches.append(before)
        elif token == ")":
            before = _pop(branches, text)
        elif token == ".":
            before = None
        elif token[0] == "%" or token.isdigit():
            before = _needed(before, text)
            if token in rings:
                other, given = rings.pop(token)
                bonds.append(_bond(atoms, other, before, given or order))
            else:
                rings[token] = (before, order)
            order = ""
        else:
            atoms.append(_element(token, text))
            if before is not None:
                bonds.append(_bond(atoms, before, len(atoms) - 1, order))
            before, order = len(atoms) - 1, ""
    if rings or branches or order or not atoms:
        raise _unreadable(text)
    return Molecule(tuple(atoms), tuple(bonds))


def _tokens(text: str) -> list[str]:
    found = _TOKEN.findall(text)
    if "".join(found) != text:
        raise _unreadable(text)
    return found


def _element(token: str, text: str) -> str:
    if token[0] != "[":
        return token
    found = _BRACKET.fullmatch(token)
    if found is None:
        raise _unreadable(text)
    return found[1]


def _bond(atoms: list[str], first: int, second: int, order: str) -> tuple[int, int, str]:
    aromatic = atoms[first].islower() and atoms[second].islower()
    return first, second, order or (":" if aromatic else "-")


def _pop(branches: list[int | None], text: str) -> int | None:
    if not branches:
        raise _unreadable(text)
    return branches.pop()


def _needed(atom: int | None, text: str) -> int:
    if atom is None:
        raise _unreadable(text)
    return atom


def _unreadable(text: str) -> UsageError:
    return UsageError(f"not readable as SMILES: '{text[:60]}'")
