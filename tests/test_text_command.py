"""`ehrfusion data text`: what a text holds and never holds, who may read it, and mistakes in one line."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.serialise import SECTIONS, TextOptions
from experiments.cli import main
from experiments.data.folder import open_dataset
from experiments.data.texts import texts

NOW = datetime(2024, 5, 1, 12)
KINDS = {
    "subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
    "text_value": pl.String, "unit": pl.String,
}  # fmt: skip
Row = tuple[int, datetime | None, str, float | None, str | None, str | None]


def write(folder: Path, rows: list[Row], predictions: list[tuple[int, datetime]] | None = None) -> Path:
    for each in ("data", "labels"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=KINDS, orient="row").write_parquet(folder / "data" / "0.parquet")
    labels = [(subject, time, True) for subject, time in predictions or [(1, NOW)]]
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    pl.DataFrame(labels, schema=schema, orient="row").write_parquet(folder / "labels" / "outcome.parquet")
    return folder


def told(folder: Path, **options: Any) -> list[str]:
    chosen = TextOptions(SECTIONS, **options)
    return [each["text"] for each in texts(open_dataset(folder), "outcome", chosen)]


# --- nothing from after the prediction time ---

PAST = [("LAB//a", "mg/dL"), ("ICD10CM//E11", None), ("NOTE//nursing", None), ("VITAL//b", "mmHg"), ("AGE", None)]
minutes = st.integers(0, 60 * 24 * 2000)
past = st.lists(st.tuples(st.sampled_from(PAST), st.none() | minutes, st.floats(-9, 9, width=32)), max_size=8)
future = st.lists(st.tuples(st.integers(1, 60 * 24 * 900), st.floats(-9, 9, width=32)), min_size=1, max_size=5)


def past_row(kind: tuple[str, str | None], before: int | None, value: float) -> Row:
    time = None if before is None else NOW - timedelta(minutes=before)
    note = kind[0].startswith("NOTE//")
    return (1, time, kind[0], None if note else value, "was seen" if note else None, kind[1])


@given(past, future, st.randoms())
@settings(max_examples=25, deadline=None)
def test_no_event_of_the_future_appears_and_neither_it_nor_the_order_changes_anything(
    tmp_path_factory: pytest.TempPathFactory, before: list[Any], after: list[Any], random: Any
) -> None:
    place = tmp_path_factory.mktemp("text")
    rows = [past_row(*each) for each in before]
    later: list[Row] = []
    for wait, value in after:
        time = NOW + timedelta(minutes=wait)
        later += [(1, time, "LAB//FUTURE", value, None, "mg/dL"), (1, time, "NOTE//FUTURE", None, "FUTURE", None)]
        later.append((1, time, "LAB//a", 7_777_777.0, None, "mg/dL"))
    (wanted,) = told(write(place / "past", rows))
    mixed = [*rows, *later]
    random.shuffle(mixed)
    (found,) = told(write(place / "whole", mixed))
    assert found == wanted
    assert "FUTURE" not in found
    assert "7777777" not in found
    for event in rows:
        assert event[2] != "NOTE//nursing" or "> was seen" in found, "what is known is told"


def test_an_event_is_told_from_when_it_is_known(tmp_path: Path) -> None:
    times = [NOW - timedelta(seconds=1), NOW, NOW + timedelta(seconds=1)]
    folder = write(tmp_path, [(1, NOW, "ICD10CM//E11", None, None, None)], [(1, each) for each in times])
    assert ["ICD10CM E11" in text for text in told(folder)] == [False, True, True]


def test_a_patient_without_any_event_has_a_text_that_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path, [(1, NOW, "ICD10CM//E11", None, None, None)], [(1, NOW), (2, NOW)])
    nobody = told(folder)[1]
    assert nobody == (Path(__file__).parent / "golden" / "nothing_at_all.md").read_text(encoding="utf-8")


# --- the command ---

SECRET = "Mrs Miller has a cough"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: list[Row] = [
        (1, NOW, "LAB//sodium", 131.0, None, "mmol/L"),
        (2, NOW, "LAB//sodium", 140.0, None, "mmol/L"),
        (2, NOW, "NOTE//nursing", None, SECRET, None),
    ]
    return write(tmp_path / "data", rows, [(2, NOW), (1, NOW)])


def test_all_are_written_for_the_owner_only_and_nothing_is_printed_of_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, table = tmp_path / "out.jsonl", tmp_path / "out.parquet"
    for out in (lines, table):
        assert main(["data", "text", str(folder), str(out), "--sections", "laboratory,notes"]) == 0
        assert out.stat().st_mode & 0o777 == 0o600
    printed = capsys.readouterr()
    assert "wrote 2 texts to" in printed.out
    assert not any(word in printed.out + printed.err for word in ("sodium", "Miller", "131"))
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [(each["row"], each["subject_id"]) for each in found] == [(0, 1), (1, 2)]
    assert found[0]["prediction_time"] == "2024-05-01 12:00:00"
    assert "- LAB sodium: 131 mmol/L (low; reference 136 to 145)" in found[0]["text"]
    assert SECRET in found[1]["text"]
    assert pl.read_parquet(table)["text"].to_list() == [each["text"] for each in found]


def test_one_is_shown_or_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "one.md"
    assert main(["data", "text", str(folder), str(out), "--row", "1", "--show"]) == 0
    shown = capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    assert shown.startswith(text)
    assert "140 mmol/L (normal; reference 136 to 145)" in text
    assert SECRET not in text, "notes are told if asked for"
    assert out.stat().st_mode & 0o777 == 0o600
    later = tmp_path / "later.md"
    assert main(["data", "text", str(folder), "--row", "1", str(later)]) == 0  # the file after an option
    assert later.read_text(encoding="utf-8") == text
    with pytest.raises(SystemExit):
        main(["data", "text", str(folder), "--row", "1", str(later), "one.more"])
    assert "unrecognized arguments: one.more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a record is private: give a file for its text, or --row N --show to see it on the terminal"),
        (["--show"], "--show prints one record; say which: --row N"),
        (["OUT.md"], "write texts to a .jsonl or .parquet file, or one (--row) to a .md file"),
        (["OUT.csv"], "write texts to a .jsonl or .parquet file"),
        (["OUT.md", "--row", "2"], "row 2: label 'outcome' has rows 0 to 1"),
        (["OUT.md", "--row", "-1"], "row -1: label 'outcome' has rows 0 to 1"),
        (["OUT.jsonl", "--sections", "drug"], "text: unknown section 'drug'; did you mean 'drugs'?"),
        (["OUT.jsonl", "--labels", "outcom"], "did you mean 'outcome'?"),
        (["OUT.jsonl", "--window-days", "0"], "--window-days must be more than 0; got 0"),
        (["HERE/data/texts.parquet"], "texts.parquet would lie in the data folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    given = [each.replace("OUT", str(tmp_path / "out")).replace("HERE", str(folder)) for each in arguments]
    assert main(["data", "text", str(folder), *given]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_there_is_kept_and_several_labels_want_a_choice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine", encoding="utf-8")
    assert main(["data", "text", str(folder), str(out)]) == 2
    assert "out.jsonl exists; --overwrite replaces it" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert main(["data", "text", str(folder), str(out), "--overwrite"]) == 0
    (folder / "labels" / "outcome.parquet").rename(folder / "labels" / "a.parquet")
    (folder / "labels" / "b.parquet").write_bytes((folder / "labels" / "a.parquet").read_bytes())
    assert main(["data", "text", str(folder), str(out), "--overwrite"]) == 2
    assert "say whose prediction times count: --labels a or b" in capsys.readouterr().err
