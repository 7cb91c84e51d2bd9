"""ATC codes of drugs: what stands above one is its own start, so that no data are needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise

from experiments.ontologies.ontology import IS_A, Ontology, Piece, piece

_CODE = re.compile(r"[A-DGHJLMNPRSV](\d\d([A-Z]([A-Z](\d\d)?)?)?)?")
_LEVELS = (5, 4, 3, 1)  # letters of what is above: C09AA, C09A, C09, C
ATC_GROUPS = {
    "A": "Alimentary tract and metabolism",
    "B": "Blood and blood forming organs",
    "C": "Cardiovascular system",
    "D": "Dermatologicals",
    "G": "Genito-urinary system and sex hormones",
    "H": "Systemic hormonal preparations, excluding sex hormones and insulins",
    "J": "Antiinfectives for systemic use",
    "L": "Antineoplastic and immunomodulating agents",
    "M": "Musculo-skeletal system",
    "N": "Nervous system",
    "P": "Antiparasitic products, insecticides and repellents",
    "R": "Respiratory system",
    "S": "Sensory organs",
    "V": "Various",
}


def atc() -> Ontology:
    """Return the anatomical therapeutic chemical classification above the codes that a folder has."""
    return Ontology(
        "atc",
        "the spelling of ATC codes; no data",
        "names of the 14 main groups: WHO Collaborating Centre for Drug Statistics Methodology",
        "ATC//C09AA05",
        _read,
        lambda code: [found] if (found := atc_code(code)) else [],
    )


def atc_code(code: str) -> str | None:
    """Return an ATC code as we spell it; None where the folder does not call it one.

    Examples:
        >>> [atc_code(code) for code in ("ATC//C09AA05", "DRUG//ATC//c09aa", "ATC/C09", "LAB//C09")]
        ['ATC//C09AA05', 'ATC//C09AA', 'ATC//C09', None]
    """
    *system, bare = re.split(r"/+|:", code.upper())
    return f"ATC//{bare}" if system and system[-1] == "ATC" and _CODE.fullmatch(bare) else None


def _read(spellings: Collection[str]) -> Iterator[Piece]:
    facts = set()
    for code in spellings:
        bare = code.removeprefix("ATC//")
        line = [bare, *(bare[:length] for length in _LEVELS if length < len(bare))]
        facts |= {(f"ATC//{low}", IS_A, f"ATC//{high}") for low, high in pairwise(line)}
    yield piece(sorted(facts), [(f"ATC//{group}", text) for group, text in ATC_GROUPS.items()])
