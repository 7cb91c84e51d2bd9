"""Units and reference ranges of a folder: agreed on or not told, and in the unit that the folder is in."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from encoders.records import Measure
from experiments.data.measures import folder_measures, references
from experiments.data.units import implausible, measurements


def measures(folder: Path, *rows: tuple[str, str | None]) -> dict[str, Measure]:
    kinds = {"code": pl.String, "unit": pl.String}
    pl.DataFrame(rows, schema=kinds, orient="row").write_parquet(folder / "0.parquet")
    return folder_measures([folder / "0.parquet"])


def test_a_unit_is_told_where_all_events_agree(tmp_path: Path) -> None:
    found = measures(
        tmp_path,
        ("LAB//sodium", "mmol/L"), ("LAB//sodium", None), ("LAB//sodium", " MMOL/L "), ("LAB//own", "furlong"),
        ("LAB//two", "a"), ("LAB//two", "b"), ("LAB//none", None), ("LAB//blank", " "),
        ("LAB//glucose", "mg/dL"), ("LAB//glucose", "mmol/L"),
    )  # fmt: skip
    assert found.pop("LAB//sodium") == Measure("MMOL/L", 136, 145)
    assert found.pop("LAB//own") == Measure("furlong")
    assert set(found) == {"LAB//ph", "LAB//inr"}, "numbers of two units mean nothing together"
    assert found["LAB//ph"] == Measure("", 7.35, 7.45)


def test_the_range_is_in_the_unit_of_the_folder(tmp_path: Path) -> None:
    found = measures(tmp_path, ("VITAL//temperature", "F"), ("LAB//glucose", "mmol/L"))
    assert found["VITAL//temperature"][1:] == pytest.approx((95.0, 100.4))  # 35 and 38 degC
    assert found["LAB//glucose"][1:] == pytest.approx((70 / 18.0156, 100 / 18.0156))


def test_a_range_is_within_what_is_plausible_and_of_a_known_measurement() -> None:
    known = set(measurements()["code"])
    for code, (low, high) in references().items():
        assert code in known
        assert low is None or high is None or low < high
        bounds = pl.DataFrame({"code": [code, code], "value": [low, high]}, schema_overrides={"value": pl.Float64})
        assert not bounds.select(implausible(pl.col("code"), pl.col("value"))).to_series().any(), code


def test_a_folder_without_units_or_with_units_that_are_no_text_has_none(tmp_path: Path) -> None:
    for place, column in enumerate((pl.Series([1]), pl.Series([None]))):
        pl.DataFrame({"code": ["LAB//sodium"]}).with_columns(unit=column).write_parquet(tmp_path / f"{place}.parquet")
    pl.DataFrame({"code": ["LAB//sodium"]}).write_parquet(tmp_path / "2.parquet")
    assert "LAB//sodium" not in folder_measures(sorted(tmp_path.glob("*.parquet")))
