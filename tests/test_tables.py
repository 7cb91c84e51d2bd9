"""Reading parquet that somebody else wrote: types, ranges, and what Arrow lets pass that polars would trip over."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.data.tables import INTEGER, TEXT, TIME, check_filled, read_table
from fusion.component import UsageError

NOON = datetime(2020, 1, 1, 12)


def save(path: Path, **columns: Any) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_columns_come_in_the_types_that_are_counted_on(tmp_path: Path) -> None:
    zoned = pl.Series([NOON]).dt.replace_time_zone("Asia/Tokyo").cast(pl.Datetime("ms", "Asia/Tokyo"))
    few, kinds = pl.Series([7], dtype=pl.UInt8), pl.Series(["x"], dtype=pl.Categorical)
    path = save(tmp_path / "a", n=few, t=zoned, c=kinds, z=[1])
    table = read_table(path, {"n": INTEGER, "t": TIME, "c": TEXT}, {"none": TEXT}, only=True)
    assert dict(table.schema) == {"n": pl.Int64, "t": pl.Datetime("us"), "c": pl.String}
    assert table.row(0) == (7, datetime(2020, 1, 1, 3), "x")  # noon in Tokyo, told in UTC
    assert read_table(path, {"n": INTEGER}).columns == ["n", "t", "c", "z"]


@pytest.mark.parametrize(
    ("column", "kind", "text"),
    [
        (pl.Series([1, 2**63], dtype=pl.UInt64), INTEGER, "row 1: a is out of the range of Int64"),
        (pl.Series([0, 2**62]).cast(pl.Datetime("us")), TIME, "row 1: a is out of the range of Datetime"),
        (pl.Series([0, 2**62]).cast(pl.Datetime("ms")), TIME, "row 1: a is out of the range of Datetime"),
        (pl.Series(["secret"]), INTEGER, "column 'a' must be int64; got String"),
        (pl.Series([1.0]), INTEGER, "column 'a' must be int64; got Float64"),
        (pl.Series([None]), INTEGER, "column 'a' must be int64; got Null"),
    ],
)
def test_what_is_out_of_range_or_of_another_type(tmp_path: Path, column: pl.Series, kind: Any, text: str) -> None:
    path = save(tmp_path / "a.parquet", a=column)
    with pytest.raises(UsageError) as raised:
        read_table(path, {"a": kind})
    assert str(raised.value).startswith(f"{path}: {text}")
    assert "secret" not in str(raised.value)
    assert str(2**63) not in str(raised.value)


def test_what_is_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", b=["x", None])
    with pytest.raises(UsageError, match=r"a\.parquet: missing column 'a'; got b$"):
        read_table(path, {"a": TEXT})
    with pytest.raises(UsageError, match=r"a\.parquet: row 1: b is null$"):
        check_filled(path, read_table(path, {"b": TEXT}), ["b"])
    with pytest.raises(UsageError, match=r"gone\.parquet: not readable as parquet: No such file or directory$"):
        read_table(tmp_path / "gone.parquet", {})


def not_text(path: Path) -> None:
    """Texts that are none, which Arrow writes and reads without looking."""
    buffers = [None, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")]
    pq.write_table(pa.table({"a": pa.Array.from_buffers(pa.string(), 1, buffers)}), path)


def no_name(path: Path) -> None:
    """A column whose name is no text."""
    pq.write_table(pa.table({"aaaaaaaaaaaa": pa.array([1])}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"aaaaaaaaaaaa", b"\xff" * 12))


@pytest.mark.parametrize("write", [not_text, no_name])
def test_what_is_no_utf8_is_damage(tmp_path: Path, write: Any, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=r"a\.parquet: not readable as parquet: it is damaged, or of another format$"):
        read_table(tmp_path / "a.parquet", {"a": TEXT})
    assert capfd.readouterr().err == ""  # threads of Rust that panic write there


def test_metadata_that_are_no_text_are_not_looked_at(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), metadata={b"k": b"\xff"})], {b"\xff": b"\xff"})
    pq.write_table(pa.table([pa.array([1])], schema), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet", {"a": INTEGER})["a"].to_list() == [1]
