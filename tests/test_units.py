"""Units and plausible ranges: conversions worked out by hand, round trips, what is dropped, clipped and counted."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from toy_tasks import at

from experiments.cli import main
from experiments.data.check import check
from experiments.data.folder import open_dataset
from experiments.data.quality import quality
from experiments.data.units import conversions, harmonised, implausible, measurements, plain
from experiments.sources.channels import APERIODIC, CHANNELS, CHARTED, PERIODIC
from experiments.sources.folder import new_folder, write_codes, write_dataset, write_events
from experiments.sources.mimic.items import UNITS


def one(code: str, value: float | None, unit: str | None) -> tuple[float | None, str | None, str | None]:
    """The number, the unit and the fate of one event."""
    kinds = {"code": pl.String, "numeric_value": pl.Float64, "unit": pl.String}
    found = harmonised(pl.DataFrame([(code, value, unit)], schema=kinds, orient="row"))
    number, spelled, fate = found.select("numeric_value", "unit", "fate").row(0)
    return number, spelled, fate


@pytest.mark.parametrize(
    ("code", "value", "unit", "wanted"),
    [
        ("VITAL//temperature", 98.6, "Deg. F", 37.0),  # (98.6 - 32) x 5/9
        ("VITAL//temperature", 212.0, "°F", None),  # boiling
        ("VITAL//temperature", 37.5, "Cel", 37.5),  # UCUM
        ("VITAL//temperature", 98.6, "[degF]", 37.0),
        ("VITAL//temperature", 310.15, "K", 37.0),
        ("VITAL//systolic_pressure", 120.0, "mm[Hg]", 120.0),
        ("VITAL//weight", 150.0, "[lb_av]", 68.0388555),
        ("VITAL//weight", 150.0, "lbs", 68.0388555),  # x 0.45359237
        ("VITAL//weight", 3500.0, "g", 3.5),
        ("VITAL//height", 70.0, "Inch", 177.8),
        ("VITAL//height", 1.78, "m", 178.0),
        ("LAB//glucose", 5.0, "mmol/L", 90.078),  # x 180.156 / 10
        ("LAB//creatinine", 88.4, "umol/L", 0.99996),  # x 113.118 / 10,000
        ("LAB//urea_nitrogen", 5.0, "mmol/L", 14.0067),  # 5 x 2 x 14.0067 / 10
        ("LAB//calcium", 2.5, "mmol/L", 10.0195),
        ("LAB//calcium", 5.0, "mEq/L", 10.0195),  # two charges each
        ("LAB//magnesium", 1.0, "mmol/L", 2.4305),
        ("LAB//phosphate", 1.0, "mmol/L", 3.09738),
        ("LAB//bilirubin", 17.1, "umol/L", 0.99977),
        ("LAB//lactate", 18.016, "mg/dL", 2.0),  # / 9.008
        ("LAB//hemoglobin", 140.0, "g/L", 14.0),
        ("LAB//hemoglobin", 8.0, "mmol/L", 12.8916),
        ("LAB//crp", 1.2, "mg/dL", 12.0),
        ("LAB//fibrinogen", 3.0, "g/L", 300.0),
        ("LAB//platelets", 250.0, "K/uL", 250.0),
        ("LAB//platelets", 250_000.0, "/uL", 250.0),
        ("LAB//leukocytes", 7.5, "10*9/L", 7.5),
        ("LAB//sodium", 140.0, "mEq/L", 140.0),
        ("LAB//pco2", 5.0, "kPa", 37.503085),
        ("LAB//troponin_t", 14.0, "ng/L", 0.014),
        ("VITAL//central_venous_pressure", 10.0, "cmH2O", 7.355592),
        ("VITAL//fio2", 0.4, "fraction", 40.0),
        ("LAB//alt", 1.0, "ukat/L", 60.0),
        ("VITAL//urine", 1.5, "L", 1500.0),
    ],
)
def test_conversions_by_hand(code: str, value: float, unit: str, wanted: float | None) -> None:
    number, spelled, fate = one(code, value, unit)
    canonical = dict(measurements().select("code", "canonical").iter_rows())[code]
    if wanted is None:
        assert (number, fate) == (None, "out of range")
    else:
        assert number == pytest.approx(wanted, abs=2e-4, rel=1e-5)
        assert spelled == canonical
        assert fate == ("kept" if number == value else "converted")


def test_there_and_back_is_where_it_was() -> None:
    table = conversions().filter(pl.col("factor") != 1)
    assert table.height > 60
    low, high = pl.max_horizontal("low", "clip_low").fill_null(1), pl.min_horizontal("high", "clip_high").fill_null(9)
    inside = table.join(measurements(), on="code").with_columns(inside=(low + high) / 2)
    there = inside.with_columns(numeric_value=(pl.col("inside") - pl.col("offset")) / pl.col("factor"))
    back = harmonised(there.select("code", "numeric_value", "inside", unit="spelled"))
    assert back["fate"].unique().to_list() == ["converted"]
    assert back["numeric_value"].to_list() == pytest.approx(back["inside"].to_list())


def test_two_ways_between_units_agree() -> None:
    scale = {(code, spelled): factor for code, spelled, factor, _ in conversions().iter_rows()}
    assert scale["LAB//calcium", "mmol/l"] * scale["LAB//ionized_calcium", "mg/dl"] == pytest.approx(1, rel=1e-5)
    assert scale["LAB//calcium", "meq/l"] * 2 == pytest.approx(scale["LAB//calcium", "mmol/l"])
    assert scale["VITAL//peep", "mmhg"] * scale["LAB//pco2", "cmh2o"] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("code", "value", "unit", "wanted"),
    [
        ("LAB//creatinine", 66.0, "mg/dL", (60.0, "mg/dL", "clipped")),  # on the limit: moved to the valid one
        ("LAB//creatinine", 66.1, "mg/dL", (None, "mg/dL", "out of range")),
        ("LAB//creatinine", 60.0, "mg/dL", (60.0, "mg/dL", "kept")),
        ("LAB//creatinine", 0.05, "mg/dL", (0.1, "mg/dL", "clipped")),
        ("VITAL//heart_rate", 300.0, "bpm", (300.0, "/min", "kept")),
        ("VITAL//heart_rate", 301.0, "bpm", (None, "bpm", "out of range")),
        ("VITAL//heart_rate", 80.0, None, (80.0, "/min", "kept")),
        ("VITAL//heart_rate", 80.0, "", (80.0, "/min", "kept")),
        ("LAB//glucose", 9999.0, "furlong", (9999.0, "furlong", "unknown unit")),
        ("LAB//glucose", None, "mg/dL", (None, "mg/dL", "no number")),
        ("LAB//ph", 9.0, None, (None, None, "out of range")),
        ("LAB//unheard_of", 9999.0, "mg", (9999.0, "mg", None)),
    ],
)
def test_limits_and_what_is_not_known(
    code: str, value: float | None, unit: str | None, wanted: tuple[float | None, str | None, str | None]
) -> None:
    assert one(code, value, unit) == wanted


def test_harmonising_again_changes_nothing() -> None:
    table = pl.DataFrame(
        {
            "code": ["VITAL//temperature", "LAB//creatinine", "LAB//glucose", "LAB//x"],
            "numeric_value": [98.6, 65.0, 5.0, 1.0],
            "unit": ["F", "mg/dL", "mmol/L", None],
        }
    )
    once = harmonised(table)
    twice = harmonised(once.select(table.columns))
    assert twice.select(table.columns).equals(once.select(table.columns))
    assert twice["fate"].to_list() == ["kept", "kept", "kept", None]


def test_the_tables_are_sound_and_say_where_they_are_from() -> None:
    table = measurements()
    assert table["code"].is_unique().all()
    assert table["source"].str.len_chars().min() > 5
    ordered = table.filter(
        (pl.col("low") > pl.col("clip_low"))
        | (pl.col("clip_high") > pl.col("high"))
        | (pl.col("low") >= pl.col("high"))
    )
    assert ordered.is_empty()
    assert conversions().select("code", "spelled").is_unique().all()
    assert set(conversions()["spelled"]) == {plain(text) for text in conversions()["spelled"]}


def test_converters_and_the_table_name_the_same_units() -> None:
    known = dict(measurements().select("code", "canonical").iter_rows())
    for channel in (*APERIODIC.values(), *PERIODIC.values(), *CHARTED.values(), *CHANNELS):
        if channel.code in known:
            assert channel.unit == known[channel.code] == UNITS[channel.code], channel.code


def test_implausible_is_what_the_limits_leave_out() -> None:
    table = pl.DataFrame({"code": ["LAB//ph", "LAB//ph", "LAB//inr", "x"], "value": [6.0, 5.9, 1e9, 1e9]})
    assert table.select(implausible(pl.col("code"), pl.col("value"))).to_series().to_list() == [False, True, None, None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        ("VITAL//temperature", 98.6, "F"),
        ("VITAL//temperature", 37.5, "degC"),
        ("VITAL//temperature", 60.0, "degC"),
        ("VITAL//temperature", 36.0, None),
        ("LAB//creatinine", 65.0, "mg/dL"),
        ("LAB//creatinine", 1.0, "stone"),
        ("LAB//sodium", 140.0, "mmol/L"),
        ("LAB//other", 5.0, "x"),
    ]
    with new_folder(tmp_path / "data") as new:
        table = pl.DataFrame(rows, schema=["code", "numeric_value", "unit"], orient="row")
        times = [at(hour) for hour in range(len(rows))]
        write_events(new, 0, table.with_columns(subject_id=pl.lit(1), time=pl.Series(times)))
        write_codes(new, table["code"].unique().to_list(), {}, {})
        write_dataset(new, dataset_name="toy")
    return tmp_path / "data"


def test_the_quality_of_a_folder_is_counted_and_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {row.pop("code"): row for row in quality(open_dataset(folder)).to_dicts()}
    assert found["VITAL//temperature"] == {
        **{"unit": "degC", "range": "25 to 45", "n": 4, "no unit": 1, "converted": 1, "clipped": 0},
        **{"out of range": 1, "unknown unit": 0, "no number": 0},
    }
    assert [found["LAB//creatinine"][name] for name in ("n", "clipped", "unknown unit")] == [2, 1, 1]
    assert set(found) == {"VITAL//temperature", "LAB//creatinine", "LAB//sodium"}
    assert check(folder).quality is not None
    main(["data", "check", str(folder)])
    shown = capsys.readouterr().out
    assert "quality of measurements" in shown
    assert "1 others, as they should be" in shown
    assert "none: no number" in " ".join(shown.split())  # a count that no measurement has takes no column


def test_a_folder_is_harmonised_as_it_was_said_to_be(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "common"
    assert main(["data", "harmonise", str(folder), str(out)]) == 0
    table = pl.read_parquet(out / "data" / "00000.parquet").sort("time")
    assert table["numeric_value"].round(3).to_list() == [37.0, 37.5, 36.0, 60.0, 1.0, 140.0, 5.0]
    assert table["unit"].to_list() == ["degC", "degC", "degC", "mg/dL", "stone", "mmol/L", "x"]
    assert table.schema == pl.read_parquet(folder / "data" / "00000.parquet").schema
    counted = json.loads((out / "metadata" / "quality.json").read_text(encoding="utf-8"))["measurements"]
    assert sum(row["n"] for row in counted) == 7
    assert check(out).ok
    again = quality(open_dataset(out)).filter(pl.col("converted") + pl.col("out of range") + pl.col("clipped") > 0)
    assert again.is_empty()
    assert main(["data", "harmonise", str(folder), str(out)]) == 2  # it is there
