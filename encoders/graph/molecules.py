"""Substructures of molecules by rdkit, an optional part that is imported when it is first wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from fusion.component import UsageError

_RADIUS = 2  # bonds around an atom; circles of two hold the functional groups drugs share


def substructures(smiles: Iterable[str]) -> dict[str, list[str]]:
    """Return the circular substructures of each molecule as sorted names; an empty list for one that cannot be read.

    Each atom gives its surroundings up to two bonds away (Morgan, not folded, so that no two share a number). BRICS
    fragments are the alternative of the literature on drug recommendation, but a small molecule such as metformin
    has nothing to cut and is a fragment that no other drug has, so that an unseen one would have no feature at all.

    Raises:
        UsageError: rdkit is not installed.

    Reference:
        Rogers, Hahn, Extended-Connectivity Fingerprints, 2010; drugs by substructures: Yang et al., SafeDrug, 2021
        (there BRICS fragments).
    """
    try:
        chem = importlib.import_module("rdkit.Chem")
        generators = importlib.import_module("rdkit.Chem.rdFingerprintGenerator")
        messages = importlib.import_module("rdkit.rdBase")
    except ImportError:
        raise UsageError(
            "features 'molecules' needs rdkit; install it with: pip install 'ehrfusion[molecules]'"
        ) from None
    generator = generators.GetMorganGenerator(radius=_RADIUS)
    silence = messages.BlockLogs()  # one count of the unreadable says more than a parser's lines about each
    found = {text: _names(chem.MolFromSmiles(text), generator) for text in dict.fromkeys(smiles)}
    del silence
    return found


def _names(molecule: Any, generator: Any) -> list[str]:
    if molecule is None:
        return []
    return [str(bit) for bit in sorted(generator.GetSparseFingerprint(molecule).GetOnBits())]
