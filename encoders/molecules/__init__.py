"""Drugs as molecules: their graphs, their functional groups, and a head that scores drugs by them."""

from encoders.molecules.drugs import MOLECULES, label_molecules
from encoders.molecules.groups import GROUPS, groups_of
from encoders.molecules.head import MoleculeHead
from encoders.molecules.smiles import Molecule, parse_smiles

__all__ = ["GROUPS", "MOLECULES", "Molecule", "MoleculeHead", "groups_of", "label_molecules", "parse_smiles"]
