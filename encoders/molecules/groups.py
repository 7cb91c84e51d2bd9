"""Functional groups that the molecules of drugs share, found as subgraphs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from encoders.molecules.smiles import Molecule, parse_smiles

GROUPS: Mapping[str, str] = {
    "carboxyl": "C(=O)O", "amide": "C(=O)N", "ketone": "CC(=O)C", "ether": "COC", "aryl ether": "cOC",
    "hydroxyl or ether on a ring": "cO", "nitrogen on a ring": "cN", "carbon with nitrogen": "CN",
    "tertiary amine": "CN(C)C", "isopropylamine": "CC(C)N", "tertiary butyl": "CC(C)(C)C", "isopropyl": "CC(C)C",
    "amino alcohol": "OCCN", "aryloxypropanolamine": "cOCC(O)CN", "arylethanolamine": "cC(O)CN",
    "arylpropionic acid": "cC(C)C(=O)O", "arylacetic acid": "cCC(=O)O", "amino acid": "NCC(=O)O",
    "guanidine": "NC(=N)N", "nitrile": "C#N", "alkene": "C=C", "sulfinyl": "CS(=O)c", "sulfonamide": "NS(=O)=O",
    "aryl chloride": "cCl", "fluoride": "CF", "aryl fluoride": "cF", "benzene": "c1ccccc1",
    "naphthalene": "c1ccc2ccccc2c1", "pyridine": "c1ccncc1", "benzimidazole": "c1ccc2ncnc2c1", "furan": "c1ccoc1",
    "thiophene": "c1ccsc1", "pyrrolidine": "C1CCNC1", "piperidine": "C1CCNCC1", "cyclohexane": "C1CCCCC1",
    "lactone": "C1CCCC(=O)O1", "steroid-like rings": "C1CCC2CCCCC2C1",
}  # fmt: skip
"""Groups by name as SMILES in which hydrogens are left open."""


@cache
def groups_of(smiles: str) -> tuple[str, ...]:
    """Return the names of the groups of a molecule, in the order of `GROUPS`.

    Raises:
        UsageError: it is no SMILES.
    """
    molecule = parse_smiles(smiles)
    return tuple(name for name, part in GROUPS.items() if contains(molecule, parse_smiles(part)))


def contains(molecule: Molecule, part: Molecule) -> bool:
    """Tell whether a connected part is a subgraph of a molecule: the same elements, bound alike."""
    near = molecule.neighbours()
    before = [[(first, order) for first, second, order in part.bonds if second == i] for i in range(len(part.atoms))]
    for first, second, order in part.bonds:
        if first > second:  # a ring that closes backwards
            before[first].append((second, order))

    def extend(places: list[int]) -> bool:
        here = len(places)
        if here == len(part.atoms):
            return True
        bound = before[here]
        start = near[places[bound[0][0]]] if bound else [(i, "") for i in range(len(molecule.atoms))]
        return any(
            molecule.atoms[place] == part.atoms[here]
            and place not in places
            and all((place, order) in near[places[other]] for other, order in bound)
            and extend([*places, place])
            for place, _ in start
        )

    return extend([])
