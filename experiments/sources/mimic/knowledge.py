"""What is above the codes of a converted MIMIC, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from experiments.sources import knowledge
from experiments.sources.icd import icd_spelled
from experiments.sources.mimic.people import Version
from experiments.sources.tables import Kind, read_whole

_PATHS = ("MICRO//", "TRANSFER//", "HOSPITAL_ADMISSION//")


def parent(code: str, groups: dict[str, str]) -> str | None:
    """Return the code above, if any.

    Examples:
        >>> parent("MICRO//urine|escherichia coli|ciprofloxacin|r", {}), parent("DRUG//GIVEN//heparin", {})
        ('MICRO//urine|escherichia coli|ciprofloxacin', 'DRUG//NAME//heparin')
    """
    if code.startswith(_PATHS):
        return code.rsplit("|", 1)[0] if "|" in code else None
    if code.startswith("DRUG//GIVEN//"):
        return code.replace("GIVEN", "NAME", 1)
    return knowledge.parent(code, groups)


def item_names(found: Mapping[str, Path]) -> dict[int, str]:
    """Return the names of the chart's items; empty without the dictionary."""
    return _names(found, "d_items", "label")


def laboratory_names(found: Mapping[str, Path]) -> dict[int, str]:
    """Return the names of the laboratory's items, with the fluid where that is not blood."""
    fluid = _names(found, "d_labitems", "fluid")
    blood = ("blood", "")
    return {
        itemid: label if fluid.get(itemid, "").strip().lower() in blood else f"{label} {fluid[itemid]}"
        for itemid, label in _names(found, "d_labitems", "label").items()
    }


def icd_titles(found: Mapping[str, Path], version: Version) -> dict[str, str]:
    """Return the titles of ICD codes in our spelling; empty without the dictionaries."""
    columns: dict[str, Kind] = {"icd9_code": "text"} if version == 3 else {"icd_code": "text", "icd_version": "integer"}
    titles: dict[str, str] = {}
    for name, procedure in (("d_icd_diagnoses", False), ("d_icd_procedures", True)):
        if name in found:
            table = read_whole(found[name], columns | {"long_title": "text"}).drop_nulls()
            for code, *number, title in table.iter_rows():
                spelled = icd_spelled(code, number[0] if number else 9, procedure=procedure)
                if spelled is not None:
                    titles[spelled] = title
    return titles


def _names(found: Mapping[str, Path], table: str, column: str) -> dict[int, str]:
    if table not in found:
        return {}
    columns: dict[str, Kind] = {"itemid": "integer", column: "text"}
    return dict(read_whole(found[table], columns).filter(pl.col(column).is_not_null()).iter_rows())
