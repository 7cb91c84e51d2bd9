"""Drugs as molecules: their graphs and functional groups. What scores drugs by them needs torch, and is in `head`."""

from encoders.molecules.drugs import MOLECULES, label_molecules
from encoders.molecules.groups import GROUPS, groups_of
from encoders.molecules.smiles import Molecule, parse_smiles

__all__ = ["GROUPS", "MOLECULES", "Molecule", "groups_of", "label_molecules", "parse_smiles"]
