"""A hospital's own tables: what is wrong is one line with file, row and column; nothing half-written stays."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from toy_tabular import DIED, LABS, MAPPING, SPLITS, write_ward

from experiments.sources.tabular import Mapping, convert_tables, load_mapping
from fusion.component import UsageError

TWICE = "  - {name: died, file: a, patient: b, time: c, value: d}"
HEAD = LABS.splitlines()[0]
ROW = "P1;05.01.2024 10:00;05.01.2024 11:30;Krea;1,2;mg/dl"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "patient: pid",
            "pation: pid",
            r"ward\.yaml: unknown key 'events\.0\.pation'; did you mean 'events\.0\.patient'\?",
        ),
        ("name: Ward", "nam: Ward", r"ward\.yaml: unknown key 'nam'; did you mean 'name'"),
        ("Europe/Berlin", "Europe/Berln", r"zone: unknown time zone 'Europe/Berln'; did you mean 'Europe/Berlin'\?"),
        ("%d.%m.%Y %H:%M", "dd.mm.yyyy", r"events\.0\.time\.format: 'dd\.mm\.yyyy' is no format of a time"),
        ("LAB//{test}", "LAB//{test", r"events\.0\.code: a column's name goes between braces"),
        ("LAB//{test}", "LAB//{tset}", r"labs\.csv: unknown column 'tset'; did you mean 'test'\?"),
        ("file: labs.csv", "file: lab.csv", r"source: unknown table 'lab\.csv'; did you mean 'labs\.csv'\?"),
        ("value: died", "value: dead", r"died\.csv: unknown column 'dead'; did you mean 'died'\?"),
        ("time: went, not", "not", r"events\.2: available and not_before need a time beside them"),
        ("val: tuning", "vol: tuning", r"splits\.csv: row 4: column 'part': unknown split 'val'"),
        ('separator: ";"', 'separator: ","', r"labs\.csv: unknown column 'pid'"),
    ],
)
def test_descriptions_that_are_wrong_name_the_key_and_the_nearest_right_one(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    assert old in MAPPING
    path = write_ward(tmp_path / "source", mapping=MAPPING.replace(old, new, 1))
    with pytest.raises(UsageError, match=line):
        convert_tables(path, tmp_path / "out")
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def test_descriptions_need_a_table_and_a_name_of_their_own_for_each_label(tmp_path: Path) -> None:
    path = write_ward(tmp_path, mapping="name: empty\n")
    with pytest.raises(UsageError, match="describe at least one table under events, notes or images"):
        load_mapping(path)
    path = write_ward(
        tmp_path,
        mapping=MAPPING.replace("splits:", f"{TWICE}\nsplits:"),
    )
    with pytest.raises(UsageError, match="two labels are called 'died'"):
        load_mapping(path)
    with pytest.raises(UsageError, match="no such file"):
        load_mapping(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("table", "text", "line"),
    [
        ("labs", "", r"labs\.csv: the file is empty; wanted a header at least"),
        ("labs", f"{HEAD}\n{ROW.replace('05.01.2024 10:00', 'noon')}", r"row 2: column 'taken' must be a time as %d"),
        ("labs", f"{HEAD}\n{ROW.replace('1,2', 'high')}", r"row 2: column 'result' must be a number"),
        ("labs", f"{HEAD}\n{ROW}\n{ROW};and more", r"labs\.csv: row 3: damaged or not a CSV file"),
        ("stays", "pid,came,went,ward,icd,icd\n", r"stays\.csv: column 'icd' is there twice"),
        (
            "died",
            DIED.replace("P2,2024-01-07 12:00,1\n", "P2,2024-01-07 12:00,0\n", 1),
            r"row 4: contradicts an earlier",
        ),
        ("died", DIED.replace("TRUE", "perhaps"), r"row 5: column 'died' must be 0 or 1, true or false"),
        ("died", "pid,at,died\n", r"died\.csv: no label in it"),
        ("splits", SPLITS + "P1,val\n", r"splits\.csv: row 6: the patient is in another split above"),
    ],
)
def test_tables_that_are_wrong_name_file_row_and_column(tmp_path: Path, table: str, text: str, line: str) -> None:
    path = write_ward(tmp_path / "source", **{table: text})
    with pytest.raises(UsageError, match=line) as caught:
        convert_tables(path, tmp_path / "out")
    assert not any(secret in str(caught.value) for secret in ("noon", "high", "perhaps", "P1"))
    assert [each.name for each in tmp_path.iterdir()] == ["source"]


def convert(folder: Path, content: bytes, name: str = "a.csv", ids: str = "integer", **table: Any) -> dict[str, Any]:
    """Convert one table with the columns pid, at and test."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    events = [{"file": name, "patient": "pid", "time": "at", "code": "LAB//{test}"} | table]
    mapping = Mapping.model_validate({"name": "one", "source": str(folder), "ids": ids, "events": events})
    return convert_tables(mapping, folder / "out", overwrite=True)


def codes(folder: Path) -> list[str]:
    return pl.read_parquet(folder / "out" / "data" / "*.parquet")["code"].to_list()


def test_encodings_and_marks_of_byte_order(tmp_path: Path) -> None:
    text = "pid,at,test\n1,2024-01-01 10:00,Harns\u00e4ure\n"
    convert(tmp_path, b"\xef\xbb\xbf" + text.encode())
    assert codes(tmp_path) == ["LAB//Harns\u00e4ure"]
    with pytest.raises(UsageError, match=r"a\.csv: row 2: column 'test' is no UTF-8 text; the file"):
        convert(tmp_path, text.encode("latin-1"))
    convert(tmp_path, text.encode("latin-1"), encoding="latin-1")
    assert codes(tmp_path) == ["LAB//Harns\u00e4ure"]
    with pytest.raises(UsageError, match=r"a\.csv: row 1: the header is no utf-8 text"):
        convert(tmp_path, b"pid,at,test,gr\xf6\xdfe\n")


def test_ids_as_fractions_are_read_and_counted_and_others_named(tmp_path: Path) -> None:
    summary = convert(tmp_path, b"pid,at,test\n1.0,2024-01-01 10:00,a\n2,2024-01-01 10:00,a\n")
    assert summary["notes"] == {"a.csv: pid: whole numbers written like 123.0": 1}
    assert summary["patients"] == 2
    for wrong in (b"A17", b"1.5", b"99999999999999999999"):
        with pytest.raises(UsageError, match=r"a\.csv: row 3: column 'pid' must be a whole number") as caught:
            convert(tmp_path, b"pid,at,test\n1,2024-01-01 10:00,a\n" + wrong + b",2024-01-01 10:00,a\n")
        assert wrong.decode() not in str(caught.value)
    assert (
        convert(tmp_path, b"pid,at,test\n007,2024-01-01 10:00,a\n7,2024-01-01 10:00,a\n", ids="text")["patients"] == 2
    )


def test_truncated_and_damaged_files_are_named(tmp_path: Path) -> None:
    rows = b"pid,at,test\n" + b"".join(b"%d,2024-01-01 10:00,test %d\n" % (i, i * i) for i in range(2000))
    packed = gzip.compress(rows)
    for content in (packed[:-400], b"no gzip at all"):
        with pytest.raises(UsageError, match=r"a\.csv\.gz: (damaged or )?not (a|readable as a) CSV file"):
            convert(tmp_path, content, "a.csv.gz")
    pl.read_csv(rows).write_parquet(tmp_path / "whole.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet: not readable as parquet"):
        convert(tmp_path, (tmp_path / "whole.parquet").read_bytes()[:-50], "a.parquet")
    assert not (tmp_path / "out").exists()


def test_header_only_and_extra_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no event in any of the tables; see why: the tables have no rows"):
        convert(tmp_path, b"pid,at,test\n")
    convert(tmp_path, b"more,PID,at,Test,again\nx,1,2024-01-01 10:00,a,\n")
    assert codes(tmp_path) == ["LAB//a"]


def test_a_time_with_an_offset_among_others_needs_a_zone(tmp_path: Path) -> None:
    mixed = b"pid,at,test\n1,2024-01-01 10:00,a\n1,2024-01-01T10:00:00Z,a\n"
    with pytest.raises(UsageError, match=r"a\.csv: row 3: column 'at' has an offset or zone; say in which zone"):
        convert(tmp_path, mixed)
    summary = convert(tmp_path, mixed, time={"column": "at", "zone": "Europe/Berlin"})
    assert summary["events"] == 2
    times = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")["time"].dt.hour().to_list()
    assert times == [9, 10]


def test_a_frame_of_another_kind_is_named(tmp_path: Path) -> None:
    events = [{"file": "labs", "patient": "pid", "code": "a"}]
    mapping = Mapping.model_validate({"name": "one", "source": str(tmp_path), "events": events})
    with pytest.raises(UsageError, match="labs: expected a polars or pandas DataFrame or an Arrow table; got list"):
        convert_tables(mapping, tmp_path / "out", frames={"labs": [1]})
    with pytest.raises(UsageError, match="labs: unknown column 'pid'; did you mean 'pids'"):
        convert_tables(mapping, tmp_path / "out", frames={"labs": pl.DataFrame({"pids": [1]})})
