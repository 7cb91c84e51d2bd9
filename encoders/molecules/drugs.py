"""Molecules of well-known drugs by ATC code, and those of labels that are named by ATC codes or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOLECULES: Mapping[str, str] = {
    "A02BC01": "COc1ccc2[nH]c(nc2c1)S(=O)Cc1ncc(C)c(OC)c1C", "A02BC02": "COc1ccnc(CS(=O)c2nc3cc(OC(F)F)ccc3[nH]2)c1OC",
    "A10BA02": "CN(C)C(=N)NC(=N)N", "B01AC06": "CC(=O)Oc1ccccc1C(=O)O", "B01AC04": "COC(=O)C(c1ccccc1Cl)N1CCc2sccc2C1",
    "C03CA01": "NS(=O)(=O)c1cc(C(=O)O)c(NCc2ccco2)cc1Cl", "C07AB02": "COCCc1ccc(OCC(O)CNC(C)C)cc1",
    "C07AB07": "CC(C)NCC(O)COc1ccc(COCCOC(C)C)cc1", "C09AA02": "CCOC(=O)C(CCc1ccccc1)NC(C)C(=O)N1CCCC1C(=O)O",
    "C09AA03": "NCCCCC(NC(CCc1ccccc1)C(=O)O)C(=O)N1CCCC1C(=O)O",
    "C10AA01": "CCC(C)(C)C(=O)OC1CC(C)C=C2C=CC(C)C(CCC3CC(O)CC(=O)O3)C12", "M01AE01": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "M01AE02": "COc1ccc2cc(ccc2c1)C(C)C(=O)O", "N02BE01": "CC(=O)Nc1ccc(O)cc1",
    "N06AB04": "CN(C)CCCC1(OCc2cc(C#N)ccc12)c1ccc(F)cc1", "N06AB06": "CNC1CCC(c2ccc(Cl)c(Cl)c2)c2ccccc12",
    "R03AC02": "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",
}  # fmt: skip
"""Structures written down from general knowledge, without stereochemistry."""


def label_molecules(names: Sequence[str], smiles: Mapping[str, str]) -> list[list[str]]:
    """Return the known molecules of each label: of all drugs whose ATC code begins with its name.

    Args:
        names: the labels, such as B01AC06 or, for a class of drugs, B01A.
        smiles: what the data say of codes such as ATC//B01AC06; where they say nothing, `MOLECULES` does.

    Examples:
        >>> label_molecules(["A10B", "A10A"], {})
        [['CN(C)C(=N)NC(=N)N'], []]
    """
    known = {**MOLECULES, **{code.rpartition("//")[2]: text for code, text in smiles.items() if text}}
    return [sorted({text for code, text in known.items() if code.startswith(name)}) for name in names]
