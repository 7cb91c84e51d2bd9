"""OBO and CSV files of facts: what is read, what is left out, and what is said of damage."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from toy_ontologies import OBO

from experiments.ontologies import Ontology, open_ontology
from experiments.ontologies.obo import obo_file
from experiments.ontologies.triples import triple_file
from fusion import UsageError


def read(ontology: Ontology) -> tuple[set[tuple[str, ...]], dict[str, str]]:
    pieces = list(ontology.read(()))
    facts = pl.concat([facts for facts, _ in pieces])
    names = pl.concat([names for _, names in pieces])
    return set(facts.iter_rows()), dict(names.iter_rows())


def obo(tmp_path: Path, text: str) -> Ontology:
    path = tmp_path / "toy.obo"
    path.write_text(text, encoding="utf-8")
    return obo_file(path)


def test_an_obo_file_gives_parents_relations_other_ids_and_icd_codes(tmp_path: Path) -> None:
    found = obo(tmp_path, OBO)
    facts, names = read(found)
    assert facts == {
        ("HP:0000118", "is_a", "HP:0000001"),
        ("HP:0001250", "is_a", "HP:0000118"),
        ("HP:0012638", "is_a", "HP:0000118"),
        ("HP:0002279", "is_a", "HP:0001250"),  # another id of it
        ("HP:0000057", "is_a", "HP:0001250"),  # obsolete, replaced by it
        ("HP:0001250", "part_of", "HP:0012638"),
        ("ICD10CM//G40.909", "xref", "HP:0001250"),
    }
    assert names["HP:0001250"] == "Seizure"
    assert names.keys().isdisjoint({"HP:0000057", "HP:0000099", "part_of"})
    assert list(found.notes) == ["2 obsolete terms left out"]
    assert found.why == {"HP:0000099": "obsolete, and replaced by nothing"}
    assert found.source == "toy.obo (toy/2026)"


def test_a_gzipped_obo_file_is_read_and_a_cut_one_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(OBO.encode())
    path = tmp_path / "toy.obo.gz"
    path.write_bytes(whole)
    assert len(read(obo_file(path))[0]) == 7
    path.write_bytes(whole[:-20])
    with pytest.raises(UsageError, match=r"toy\.obo\.gz, after line \d+: damaged or cut off"):
        read(obo_file(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: Seizure", "name Seizure", r"line 15: wanted 'key: value' or '\[Term\]' of an OBO file"),
        ("is_a: HP:0000001 ! All", "is_a:  ! All", "line 11: 'is_a' wants a value"),
        ("part_of HP:0012638 ! N", "part_of ! N", "line 20: 'relationship' wants a relation and a term"),
        ("id: HP:0000118\n", "", r"line 8: \[Term\] has no id"),
        ("name: All", "name: " + "x" * 2**20, "line 6: longer than 1,048,576 bytes"),
    ],
)
def test_a_malformed_line_is_told_by_its_number(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(obo(tmp_path, OBO.replace(old, new, 1)))


def test_what_is_no_obo_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no OBO file: it has no \[Term\] in 0 lines"):
        read(obo(tmp_path, ""))
    (tmp_path / "odd.obo").write_bytes(b"[Term]\nid: \xff\n")
    with pytest.raises(UsageError, match=r"odd\.obo, line 2: no UTF-8 text"):
        read(obo_file(tmp_path / "odd.obo"))
    found = obo(tmp_path, OBO.rstrip())
    read(found)
    assert "it does not end with a whole line: is it cut off?" in found.notes


def table(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_primekg_and_hetionet_are_known_by_their_columns(tmp_path: Path) -> None:
    head = "relation,display_relation,x_index,x_id,x_type,x_name,x_source,y_index,y_id,y_type,y_name,y_source\n"
    row = 'indication,indication,1,DB01,drug,"Aspirin, pure",DrugBank,2,5009,disease,headache,MONDO\n'
    prime = triple_file(table(tmp_path, "kg.csv", head + row))
    assert read(prime) == (
        {("DrugBank:DB01", "indication", "MONDO:0005009")},
        {"DrugBank:DB01": "Aspirin, pure", "MONDO:0005009": "headache"},
    )
    assert prime.source == "PrimeKG"
    edges = 'source\tmetaedge\ttarget\nGene::9021\tGpBP\tBiological Process::GO:0071357\nGene::1\tG"i\tGene::2\n'
    assert read(triple_file(table(tmp_path, "edges.sif", edges)))[0] == {
        ("Gene::9021", "GpBP", "Biological Process::GO:0071357"),
        ("Gene::1", 'G"i', "Gene::2"),  # with tabs, a quote is a letter
    }


def test_columns_are_named_and_rows_without_an_end_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "own.csv", "a,b,c,d\nx,treats,y,words\n,treats,y,\nz,is_a,y,zed\n")
    found = triple_file(path, ["a", "b", "c"], ["d", "d"])
    assert read(found)[0] == {("x", "treats", "y"), ("z", "is_a", "y")}
    assert list(found.notes) == ["1 rows left out: a head, relation or tail is empty"]
    with pytest.raises(
        UsageError, match=r"which columns are head, relation and tail\? Say --columns .*; got a, b, c, d"
    ):
        triple_file(path)
    with pytest.raises(UsageError, match="missing column 'e'; got a, b, c, d"):
        read(triple_file(path, ["a", "b", "e"]))


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"own\.csv: damaged or not a CSV file|own\.csv: row 3"):
        read(triple_file(table(tmp_path, "own.csv", "head,relation,tail\na,b,c\na,b\n")))
    whole = gzip.compress(b"head,relation,tail\n" + b"a,b,c\n" * 50_000)
    (tmp_path / "own.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"own\.csv\.gz: damaged"):
        read(triple_file(tmp_path / "own.csv.gz"))


def test_an_unknown_name_has_the_nearest_answer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown ontology 'icd10'; did you mean 'icd10cm'"):
        open_ontology("icd10")
    with pytest.raises(UsageError, match=r"no such file: .*none\.obo; give one, or a name: icd9cm, icd10cm, icd10pcs"):
        open_ontology(str(tmp_path / "none.obo"))
    (tmp_path / "words.docx").touch()
    with pytest.raises(UsageError, match=r"words\.docx: wanted \.obo, \.csv"):
        open_ontology(str(tmp_path / "words.docx"))
