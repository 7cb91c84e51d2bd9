"""OMOP: what is wrong in the tables is one clear line or is counted, and nothing half-written stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from toy_omop import ANNA, ASPIRIN, tables, write_omop

from experiments.sources.omop import convert_omop
from fusion.component import UsageError

DRUG = {"person_id": ANNA, "drug_concept_id": ASPIRIN, "drug_exposure_start_date": "2020-01-02"}


def failing(tmp_path: Path, line: str, **changes: Any) -> str:
    """Convert changed tables, which must fail with a line, and return it."""
    source = write_omop(tmp_path / "source", **changes)
    with pytest.raises(UsageError, match=line) as caught:
        convert_omop(source, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source"]
    return str(caught.value)


def test_persons_are_needed_once_each(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is no folder; wanted one with the tables of OMOP"):
        convert_omop(tmp_path / "nowhere", tmp_path / "out")
    failing(tmp_path, r"person\.csv, person\.csv\.gz or person\.parquet is missing", person=None)
    persons = tables()["person"]
    failing(tmp_path, r"person\.csv: row 5: 'person_id' repeats a row above", person=[*persons, persons[0]])
    failing(tmp_path, r"person\.csv: row 2: column 'person_id' is empty", person=[persons[0] | {"person_id": None}])
    (tmp_path / "source" / "person.csv").write_text("person_id,year_of_birth\n")
    with pytest.raises(UsageError, match=r"person\.csv: no person in it"):
        convert_omop(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize(
    ("drug", "line"),
    [
        ({"person_id": ANNA, "drug_concept_id": ASPIRIN}, "missing column 'drug_exposure_start_datetime' or 'drug_exp"),
        ({"person_id": ANNA, "drug_exposure_start_date": "2020-01-02"}, r"missing column 'drug_concept_id'"),
        (DRUG | {"drug_concept_id": "aspirin"}, r"row 2: column 'drug_concept_id' must be a whole number; got another"),
        (DRUG | {"drug_exposure_start_date": "secret"}, r"row 2: column 'drug_exposure_start_date' must be a time"),
        (DRUG | {"drug_exposure_start_date": "2020-01-02T10:00:00Z"}, r"row 2: column '.*' has an offset or zone"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, drug: dict[str, Any], line: str) -> None:
    message = failing(tmp_path, line, drug_exposure=[drug])
    assert "drug_exposure.csv: " in message
    assert "secret" not in message


def test_unreadable_times_and_ids_as_fractions_are_counted(tmp_path: Path) -> None:
    rows = [DRUG, DRUG | {"drug_exposure_start_date": "2020-02-30"}, DRUG | {"person_id": "1.0", "more": "x"}]
    whole = [dict.fromkeys(rows[-1]) | {name: str(cell) for name, cell in row.items()} for row in rows]
    summary = convert_omop(write_omop(tmp_path / "source", drug_exposure=whole), tmp_path / "out")
    assert summary["tables"]["drug_exposure"] == {
        "rows": 3,
        "facts": 3,
        "events": 1,
        "left_out": {"no readable time in drug_exposure_start_date": 1, "says what another row says": 1},
    }
    assert summary["notes"] == {"drug_exposure: person_id: whole numbers written like 123.0": 1}


def test_truncated_tables_are_named(tmp_path: Path) -> None:
    many = [DRUG | {"drug_concept_id": number * number} for number in range(2000)]
    source = write_omop(tmp_path / "source", "csv.gz", drug_exposure=many)
    path = source / "drug_exposure.csv.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match=r"drug_exposure\.csv\.gz: damaged or not a CSV file"):
        convert_omop(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_with_a_header_only_and_unknown_tables_do_no_harm(tmp_path: Path) -> None:
    source = write_omop(tmp_path / "source", drug_exposure=None, drug_era=None, my_table=[{"a": 1}, {"a": 2}])
    (source / "drug_exposure.csv").write_text("person_id,drug_concept_id,drug_exposure_start_date\n")
    summary = convert_omop(source, tmp_path / "out")
    assert summary["tables"]["my_table"]["left_out"] == {"no table of the common data model": 2}
    assert summary["tables"].get("drug_exposure", {"rows": 0})["rows"] == 0
    assert "drug_exposure" not in summary["missing_tables"]


def test_shards_do_not_change_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_omop(tmp_path / "source")
    convert_omop(source, tmp_path / "one")
    monkeypatch.setattr("experiments.sources.shards._SHARD_BYTES", 300)
    convert_omop(source, tmp_path / "many")
    files = sorted((tmp_path / "many" / "data").glob("*.parquet"))
    assert len(files) == 3
    assert pl.concat([pl.read_parquet(file) for file in files]).equals(pl.read_parquet(tmp_path / "one" / "data" / "*"))
