"""OMOP: every row is an event or is counted, at the time it was known, by the concept that was asked for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from toy_omop import ANNA, BERT, CARL, tables, write_omop

from experiments.cli import main
from experiments.data.check import check
from experiments.sources.omop import convert_omop

END = datetime(2020, 1, 5, 15)  # of Anna's visit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three persons, converted."""
    place = tmp_path_factory.mktemp("omop")
    convert_omop(write_omop(place / "source"), place / "out")
    return place / "out"


def events(folder: Path, subject: int, prefix: str = "") -> list[tuple[Any, ...]]:
    table = pl.read_parquet(folder / "data" / "*.parquet")
    table = table.filter((pl.col("subject_id") == subject) & pl.col("code").str.starts_with(prefix))
    return table.select("time", "code", "numeric_value", "unit").rows()


def codes(folder: Path) -> set[str]:
    return set(pl.read_parquet(folder / "data" / "*.parquet")["code"])


def test_persons_are_born_and_have_a_sex_and_a_site(folder: Path) -> None:
    assert events(folder, ANNA, "MEDS_BIRTH") == [(datetime(1950, 3, 4), "MEDS_BIRTH", None, None)]
    assert events(folder, BERT, "MEDS_BIRTH") == [(datetime(1940, 6, 1, 12), "MEDS_BIRTH", None, None)]
    assert [code for _, code, *_ in events(folder, ANNA)[:2]] == ["GENDER//F", "RACE//white"]
    table = pl.read_parquet(folder / "data" / "*.parquet").drop_nulls("site")
    assert set(table.select("subject_id", "site").rows()) == {(ANNA, "7"), (BERT, "8")}


def test_values_have_their_units_and_answers_stand_in_the_code(folder: Path) -> None:
    assert events(folder, ANNA, "LOINC//") == [
        (datetime(2020, 1, 2, 6), "LOINC//2160-0", 1.5, "mg/dL"),
        (datetime(2020, 1, 2, 6), "LOINC//5792-7|SNOMED//10828004", None, None),
        (datetime(2020, 1, 2, 7), "LOINC//2160-0", pytest.approx(1.7), "mg per dl"),
    ]


def test_diagnoses_and_procedures_count_from_the_end_of_their_visit(folder: Path, tmp_path: Path) -> None:
    assert [(time, code) for time, code, *_ in events(folder, ANNA, "SNOMED//")] == [
        (END, "SNOMED//302497006"),
        (END, "SNOMED//56675007"),
    ]
    convert_omop(write_omop(tmp_path / "source"), tmp_path / "out", coded="dated")
    assert [(time, code) for time, code, *_ in events(tmp_path / "out", ANNA, "SNOMED//")] == [
        (datetime(2020, 1, 1, 23, 59, 59), "SNOMED//56675007"),
        (datetime(2020, 1, 3, 9), "SNOMED//302497006"),
    ]


def test_what_bears_a_date_only_counts_from_the_end_of_the_day_and_so_does_midnight(
    folder: Path, tmp_path: Path
) -> None:
    assert [time for time, *_ in events(folder, BERT, "VISIT_START//")] == [datetime(2020, 2, 1, 23, 59, 59)]
    assert [time for time, *_ in events(folder, ANNA, "NOTE//")] == [datetime(2020, 1, 5, 23, 59, 59)] * 2
    convert_omop(write_omop(tmp_path / "source"), tmp_path / "out", midnight="time", zone="America/New_York")
    assert [time for time, *_ in events(tmp_path / "out", BERT, "VISIT_START//")] == [datetime(2020, 2, 1, 5)]
    assert [time for time, *_ in events(tmp_path / "out", ANNA, "RxNorm")] == [datetime(2020, 1, 2, 13, 30)]


def test_no_event_of_a_day_without_an_hour_is_known_before_the_day_is_over(folder: Path) -> None:
    dated = {row["condition_start_date"] for row in tables()["condition_occurrence"]}
    table = pl.read_parquet(folder / "data" / "*.parquet").filter(pl.col("code").str.starts_with("SNOMED//84114007"))
    assert table["time"].min() == datetime.fromisoformat(max(dated)).replace(hour=23, minute=59, second=59)


def test_codes_are_of_the_standard_or_of_the_source(folder: Path, tmp_path: Path) -> None:
    assert "SNOMED//56675007" in codes(folder)
    assert [code for _, code, *_ in events(folder, BERT, "ICD10CM")] == ["ICD10CM//I50.23"]  # where that is 0
    convert_omop(write_omop(tmp_path / "source"), tmp_path / "out", codes="source")
    assert codes(tmp_path / "out") & {"SNOMED//56675007", "ICD10CM//I50.23"} == {"ICD10CM//I50.23"}
    assert "SNOMED//84114007" in codes(tmp_path / "out")  # where the source's is 0


def test_every_row_is_an_event_or_counted_with_the_reason(tmp_path: Path) -> None:
    summary = convert_omop(write_omop(tmp_path / "source"), tmp_path / "out")
    found = summary["tables"]
    nothing = "no concept (0), standard or of the source"
    assert {name: (each["rows"], each["events"], each["left_out"]) for name, each in found.items()} == {
        "person": (3, 5, {nothing: 6, "birth after death": 1}),
        "visit_occurrence": (2, 3, {"end before start": 1}),
        "condition_occurrence": (
            7,
            3,
            {
                nothing: 1,
                "of a patient who is not in patients": 1,
                "says what another row says": 1,
                "its concept is not in the table of concepts": 1,
            },
        ),
        "drug_exposure": (2, 1, {"no time": 1}),
        "procedure_occurrence": (1, 1, {}),
        "measurement": (4, 3, {"no value": 1}),
        "observation": (1, 1, {}),
        "death": (2, 3, {}),
        "note": (3, 2, {"no text": 1}),
        "drug_era": (2, 0, {"made of other tables": 2}),
    }
    assert all(each["facts"] == each["events"] + sum(each["left_out"].values()) for each in found.values())
    assert summary["events"] == sum(each["events"] for each in found.values()) == 22
    assert summary["missing_tables"] == ["visit_detail", "device_exposure"]


def test_the_graph_has_what_stands_above_a_code_and_what_it_maps_to(folder: Path) -> None:
    table = pl.read_parquet(folder / "metadata" / "codes.parquet")
    above = {code: list(parents) for code, _, parents in table.rows() if parents}
    assert above["SNOMED//56675007"] == ["SNOMED//84114007"]
    assert above["SNOMED//84114007"] == ["SNOMED//56265001"]  # itself used by nobody
    assert above["LOINC//5792-7|SNOMED//10828004"] == ["LOINC//5792-7"]
    assert above["ICD10CM//I50.23"] == ["ICD10CM//I50.2"]
    assert above["CAUSE_OF_DEATH//SNOMED//84114007"] == ["SNOMED//84114007"]
    said = dict(table.select("code", "description").rows())
    assert said["LOINC//5792-7|SNOMED//10828004"] == "Glucose in urine: Positive"
    edges = pl.read_parquet(folder / "graph" / "edges.parquet").rows()
    assert edges == [("ICD10CM//I50.23", "maps_to", "SNOMED//56675007")]  # that which is no longer valid is not there


def test_is_a_stands_in_for_missing_ancestors(folder: Path, tmp_path: Path) -> None:
    pairs = [{"concept_id_1": 443580, "concept_id_2": 319835, "relationship_id": "Is a"}]
    source = write_omop(tmp_path / "source", concept_ancestor=None, concept_relationship=pairs)
    summary = convert_omop(source, tmp_path / "out")
    assert "concept_ancestor" in summary["missing_tables"]
    table = pl.read_parquet(tmp_path / "out" / "metadata" / "codes.parquet")
    assert table.filter(pl.col("code") == "SNOMED//56675007")["parent_codes"].to_list() == [["SNOMED//84114007"]]


@pytest.mark.parametrize(("form", "upper"), [("csv.gz", True), ("parquet", False)])
def test_packed_capital_and_parquet_tables_say_the_same(folder: Path, tmp_path: Path, form: str, upper: bool) -> None:
    convert_omop(write_omop(tmp_path / "source", form, upper=upper), tmp_path / "out")
    assert [events(tmp_path / "out", who) for who in (ANNA, BERT, CARL)] == [
        events(folder, who) for who in (ANNA, BERT, CARL)
    ]


def test_vocabularies_parted_by_tabs_are_read(folder: Path, tmp_path: Path) -> None:
    source = write_omop(tmp_path / "source")
    path = source / "concept.csv"
    table = pl.read_csv(path).with_columns(pl.col("concept_name").str.replace("Heart disease", 'Heart "disease'))
    path.write_text("\n".join("\t".join(map(str, row)) for row in [table.columns, *table.rows()]) + "\n")
    convert_omop(source, tmp_path / "out")
    assert codes(tmp_path / "out") == codes(folder)


def test_without_vocabularies_codes_are_numbers(tmp_path: Path) -> None:
    gone = dict.fromkeys(("concept", "concept_ancestor", "concept_relationship"))
    summary = convert_omop(write_omop(tmp_path / "source", **gone), tmp_path / "out")
    assert summary["missing_tables"][-3:] == list(gone)
    assert {"OMOP//443580", "GENDER//F", "OMOP//3024629|OMOP//9191"} <= codes(tmp_path / "out")


def test_output_passes_the_schemas_of_meds_and_the_check(folder: Path) -> None:
    for path in (folder / "data").glob("*.parquet"):
        meds.DataSchema.validate(pq.read_table(path))
    meds.SubjectSplitSchema.validate(pq.read_table(folder / "metadata" / "subject_splits.parquet"))
    meds.CodeMetadataSchema.validate(pq.read_table(folder / "metadata" / "codes.parquet"))
    meds.DatasetMetadataSchema.validate(json.loads((folder / "metadata" / "dataset.json").read_text()))
    assert check(folder).ok


def test_the_command_takes_labels_and_says_who_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, label = write_omop(tmp_path / "source"), tmp_path / "death.parquet"
    when = [datetime(2020, 1, 2), datetime(2020, 2, 2), datetime(2020, 2, 2)]
    pl.DataFrame(
        {"subject_id": [ANNA, BERT, 99], "prediction_time": when, "boolean_value": [False, True, True]}
    ).write_parquet(label)
    assert main(["data", "omop", str(source), str(tmp_path / "out"), "--labels", str(label)]) == 0
    shown = capsys.readouterr().out
    assert (
        "death: rows of death.parquet 3; with a value 3; each patient and time once 3; of patients of the dataset 2"
        in shown
    )
    assert "tables not found in the source: visit_detail, device_exposure" in shown
    rows = pl.read_parquet(tmp_path / "out" / "labels" / "death.parquet").rows()
    assert rows == [(ANNA, when[0], False), (BERT, when[1], True)]
