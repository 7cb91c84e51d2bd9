"""The tables of MIMIC-III and of MIMIC-IV: where they lie, which make events, and which are not taken and why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.sources.mimic.coded import CODED_3, CODED_4
from experiments.sources.mimic.facts import Table
from experiments.sources.mimic.filmed import FILMS_4
from experiments.sources.mimic.films import find_reports
from experiments.sources.mimic.given import GIVEN_3, GIVEN_4
from experiments.sources.mimic.measured import MEASURED_3, MEASURED_4
from experiments.sources.mimic.notes import NOTES_3, NOTES_4
from experiments.sources.mimic.people import CORE, Version
from fusion.component import UsageError

TABLES: dict[Version, tuple[Table, ...]] = {
    3: (*CODED_3, *MEASURED_3, *GIVEN_3, *NOTES_3),
    4: (*CODED_4, *MEASURED_4, *GIVEN_4, *NOTES_4, *FILMS_4),
}
DICTIONARIES = ("d_items", "d_labitems", "d_icd_diagnoses", "d_icd_procedures")
NOT_TAKEN = {
    **dict.fromkeys((*DICTIONARIES, "d_hcpcs", "d_cpt"), "dictionary: it names codes"),
    **dict.fromkeys(("caregiver", "caregivers", "provider"), "about who wrote, not about patients"),
    **dict.fromkeys(("poe", "poe_detail"), "orders; those of drugs are in prescriptions"),
    **dict.fromkeys(("discharge_detail", "radiology_detail"), "fields about notes"),
    "emar_detail": "details of emar",
    "ingredientevents": "the ingredients of inputevents",
    "datetimeevents": "its values are dates",
    "callout": "planning of discharges",
    "demo_subject_id": "a list of patients",
    "cxr_split": "splits of images; those of this folder are of patients",
    "cxr_test_set_labeled": "labels by hand for testing labellers",
    **dict.fromkeys(("cxr_record_list", "cxr_study_list", "cxr_provider_list"), "a list of files"),
}
UNKNOWN = "no table that is known here"
_MODULES = ("hosp", "icu", "ed", "note")
_SUFFIXES = (".csv.gz", ".csv")
_FILMS = re.compile(r"(?:mimic-)?cxr(?:-\d+\.\d+\.\d+)?-(.+)")


def find_tables(src: Path, version: Version, beside: Sequence[Path] = ()) -> dict[str, Path]:
    """Find the CSV files of a release by their names in lower case, flat or in the folders of its modules.

    Args:
        beside: folders with what is published apart: emergency department, notes, chest X-rays and their reports.

    Raises:
        UsageError: a folder is none, has nothing of this, or lacks a table without which there is nothing.
    """
    wanted = f"MIMIC-{'III' if version == 3 else 'IV'}"
    if not src.is_dir():
        raise UsageError(f"{src} is no folder; wanted one with the tables of {wanted} (patients.csv.gz, ...)")
    found: dict[str, Path] = {}
    for name, path in _files(src):
        found.setdefault(name, path)
    for folder in beside:
        more = dict(_files(folder)) if folder.is_dir() else {}
        known = {each.name for each in TABLES[version]} | set(NOT_TAKEN)
        if not known & set(more) and find_reports([folder]) is None:
            raise UsageError(f"{folder} has no table or report that is known here; wanted a module of {wanted}")
        for name, path in more.items():
            if path.resolve() != found.setdefault(name, path).resolve():
                raise UsageError(f"{path}: {name} is in {found[name].parent} too; give one of them")
    for name in CORE[version]:
        if name not in found:
            where = "" if version == 3 else f", nor in {', '.join(f'{each}/' for each in _MODULES)}"
            raise UsageError(
                f"{src}: {name}.csv or {name}.csv.gz is missing{where}; {wanted} cannot be read without it"
            )
    return found


def _files(src: Path) -> Iterator[tuple[str, Path]]:
    folders = [src, *(each for each in sorted(src.iterdir()) if each.is_dir() and each.name.lower() in _MODULES)]
    for folder in folders:
        for path in sorted(folder.iterdir()):
            suffix = next((each for each in _SUFFIXES if path.name.lower().endswith(each)), None)
            if suffix and path.is_file():
                name = path.name.lower().removesuffix(suffix)
                film = _FILMS.fullmatch(name)
                yield f"cxr_{film[1].replace('-', '_')}" if film else name, path
