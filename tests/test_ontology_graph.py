"""A folder gets its graph from ontologies made by hand: what is added, what is counted, and what is not told."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import polars as pl
import pytest
from toy_ontologies import OBO, facts_of, folder_of, is_a

from encoders.graph import CodeGraph
from encoders.records import Record
from experiments.cli import main
from experiments.data.folder import open_dataset
from experiments.ontologies.card import CARD, UNCOVERED, add_ontologies
from experiments.ontologies.coverage import vocabulary_of
from fusion import UsageError


@pytest.fixture
def obo(tmp_path: Path) -> str:
    path = tmp_path / "toy.obo"
    path.write_text(OBO, encoding="utf-8")
    return str(path)


def test_codes_get_all_that_is_above_them_however_they_are_spelled(tmp_path: Path, obo: str) -> None:
    codes = {"HPO//HP_0001250": 20, "HP:0002279": 12, "DIAGNOSIS//ICD//10//G40909": 15, "LAB//sodium": 30}
    folder = folder_of(tmp_path / "data", codes)
    card = add_ontologies(folder, [obo])
    seizure = is_a(("HP:0001250", "HP:0000118"), ("HP:0000118", "HP:0000001"))
    physiology = is_a(("HP:0012638", "HP:0000118"))  # a relation leads there
    spelled = is_a(
        ("HPO//HP_0001250", "HP:0001250"),
        ("HP:0002279", "HP:0001250"),
        ("DIAGNOSIS//ICD//10//G40909", "ICD10CM//G40.909"),
    )
    links = {("HP:0001250", "part_of", "HP:0012638"), ("ICD10CM//G40.909", "xref", "HP:0001250")}
    assert facts_of(folder) == seizure | physiology | spelled | links
    assert open_dataset(folder).knowledge().descriptions["HP:0001250"] == "Seizure"
    (name,) = card.coverage
    assert [(row.vocabulary, row.covered, row.codes) for row in card.coverage[name]] == [
        ("DIAGNOSIS//ICD//10", 1, 1),
        ("HP", 1, 1),
        ("HPO", 1, 1),
        ("", 3, 4),
    ]
    assert card.coverage[name][-1].share_of_events == "61.0%"  # 20 + 12 + 15 of 77
    assert card.depth[name] == 3


def test_what_no_code_leads_to_is_kept_only_if_asked(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"HP:0000118": 12})
    add_ontologies(folder, [obo])
    assert facts_of(folder) == is_a(("HP:0000118", "HP:0000001"))
    add_ontologies(folder, [obo], whole=True)
    assert len(facts_of(folder)) == 7


def test_a_second_ontology_adds_and_the_same_again_changes_nothing(tmp_path: Path, obo: str) -> None:
    own = {("HP:0001250", "seen_in", "LAB//sodium"), *is_a(("HP:0001250", "MINE"))}
    folder = folder_of(
        tmp_path / "data",
        {"HP:0001250": 12, "LAB//sodium": 12},
        parents={"HP:0001250": ["MINE"]},
        edges=[("HP:0001250", "seen_in", "LAB//sodium")],
    )
    table = tmp_path / "kg.csv"
    table.write_text("head,relation,tail\nDRUG//x,treats,HP:0001250\nDRUG//x,treats,HP:9\n", encoding="utf-8")
    add_ontologies(folder, [obo, str(table)])
    facts = facts_of(folder)
    assert facts >= own | {("DRUG//x", "treats", "HP:0001250")}
    assert ("DRUG//x", "treats", "HP:9") not in facts, "a drug that is only a neighbour brings no neighbours"
    before = open_dataset(folder).fingerprint
    add_ontologies(folder, [obo, str(table)])
    assert open_dataset(folder).fingerprint == before


def test_circles_are_cut_and_named(tmp_path: Path) -> None:
    text = OBO.replace("name: All\n", "name: All\nis_a: HP:0001250\n")
    (tmp_path / "round.obo").write_text(text, encoding="utf-8")
    folder = folder_of(tmp_path / "data", {"HP:0001250": 12})
    card = add_ontologies(folder, [str(tmp_path / "round.obo")])
    assert "1 is_a left out that close a circle: HP:0000118 is_a HP:0000001" in card.ontologies[0].notes
    assert is_a(("HP:0000001", "HP:0001250"), ("HP:0001250", "HP:0000118")) <= facts_of(folder)
    assert not is_a(("HP:0000118", "HP:0000001")) & facts_of(folder)


def test_codes_of_another_vocabulary_are_refused_and_nothing_is_written(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"LAB//sodium": 30, "LAB//potassium": 12, "DX//a rare story": 3})
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as raised:
        add_ontologies(folder, [obo])
    assert "none of its 3 codes is in toy.obo" in str(raised.value)
    assert str(raised.value).endswith("got codes like LAB//sodium")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_counts_of_a_few_patients_are_not_told(tmp_path: Path, obo: str, capsys: pytest.CaptureFixture[str]) -> None:
    codes = {"HP:0001250": 30, "HP:0000099": 9, "HP:7777777": 10, "NOTE//a rare story": 4, "LAB//sodium": 11}
    folder = folder_of(tmp_path / "data", codes, shards=3)
    assert main(["data", "graph", str(folder), obo]) == 0
    shown = capsys.readouterr().out
    assert "a rare story" not in shown, "free text of a few patients stays in the file"
    assert "obsolete, and replaced by nothing" in shown
    listed = pl.read_csv(folder / UNCOVERED, infer_schema=False)
    assert dict(listed.select("code", "patients").iter_rows()) == {
        "HP:7777777": "10",
        "HP:0000099": "under 10",
        "LAB//sodium": "11",
        "NOTE//a rare story": "under 10",
    }
    assert set(listed.filter(pl.col("patients") == "under 10")["events"]) == {"of under 10 patients"}
    for name in (CARD, UNCOVERED):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    assert card["facts_by_relation"] == {"is_a": 3, "part_of": 1}
    assert card["ontologies"][0]["coverage"][0] == {
        "vocabulary": "HP",
        "codes": 3,
        "covered_codes": 1,
        "share_of_codes": 0.3333,
        "share_of_events": "61.2%",  # 30 of 49; ten patients have the rest
    }


def test_a_share_that_would_tell_of_a_few_patients_is_words(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"HP:0001250": 30, "HP:0000099": 9, "LAB//x": 30})
    (rows,) = add_ontologies(folder, [obo]).coverage.values()
    assert [row.share_of_events for row in rows] == ["all but under 10 patients'", "43.5%"]
    folder = folder_of(tmp_path / "other", {"HP:0001250": 9, "LAB//x": 30})
    (rows,) = add_ontologies(folder, [obo]).coverage.values()
    assert [row.share_of_events for row in rows] == ["under 10 patients", "under 10 patients'"]


def test_files_keep_their_rights(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"HP:0001250": 12})
    (folder / "metadata" / "codes.parquet").chmod(0o640)
    add_ontologies(folder, [obo])
    assert stat.S_IMODE((folder / "metadata" / "codes.parquet").stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "graph" / "edges.parquet").stat().st_mode) == 0o600


def test_other_columns_of_the_code_table_stay(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"HP:0001250": 12})
    path = folder / "metadata" / "codes.parquet"
    pl.DataFrame({"code": ["HP:0001250"], "smiles": ["CCO"], "description": ["ours"]}).write_parquet(path)
    add_ontologies(folder, [obo])
    knowledge = open_dataset(folder).knowledge()
    assert dict(knowledge.smiles) == {"HP:0001250": "CCO"}
    assert knowledge.descriptions["HP:0001250"] == "ours", "a name that the folder gave stays"


def test_atc_needs_no_data(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "data", {"ATC/C09AA05": 12, "DRUG//ATC//c09": 12, "ATC//Q99": 12})
    card = add_ontologies(folder, ["atc"])
    assert facts_of(folder) == is_a(
        ("ATC/C09AA05", "ATC//C09AA05"),
        ("ATC//C09AA05", "ATC//C09AA"),
        ("ATC//C09AA", "ATC//C09A"),
        ("ATC//C09A", "ATC//C09"),
        ("ATC//C09", "ATC//C"),
        ("DRUG//ATC//c09", "ATC//C09"),
    )
    assert card.unmapped["code"].to_list() == ["ATC//Q99"], "Q is for animals"


def test_the_graph_is_what_encoders_read(tmp_path: Path, obo: str) -> None:
    folder = folder_of(tmp_path / "data", {"HPO//HP_0001250": 20})
    add_ontologies(folder, [obo])
    graph = CodeGraph.fit([Record()], open_dataset(folder).knowledge())
    node = graph.node("HPO//HP_0001250")
    assert node is not None
    line, real = graph.lineage()
    assert [graph.nodes[i] for i in line[node][real[node]].tolist()] == [
        "HPO//HP_0001250",
        "HP:0001250",
        "HP:0000118",
        "HP:0000001",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hpp"], "unknown ontology 'hpp'; did you mean 'hpo'?"),
        (["kg.csv", "--columns", "a,b"], "argument --columns: must be 3 columns with commas between; got 'a,b'"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    folder = folder_of(tmp_path / "data", {"HP:0001250": 12})
    try:
        code = main(["data", "graph", str(folder), *arguments])
    except SystemExit as stop:
        code = int(stop.code or 0)
    error = capsys.readouterr().err
    assert code == 2
    assert said in error
    assert error.count("\n") == 1


def test_vocabularies_are_what_codes_begin_with() -> None:
    assert vocabulary_of("MEDS_BIRTH") == "MEDS_BIRTH"
    assert vocabulary_of("ICD10CM/I50.23") == "ICD10CM"
    assert vocabulary_of("DX//cardiovascular|shock") == "DX"
