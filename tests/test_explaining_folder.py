"""Explanations of a bundle on a folder: a page and tables, and nothing of fewer than ten patients."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from test_predict import event, write_bundle, write_folder

from experiments.cli import main
from experiments.explaining.folder import explain_folder
from fusion import Architecture, Spec, Task, UsageError

COMMON, RARE = range(101, 113), range(101, 106)


def made(folder: Path) -> Path:
    events = [event(each, 1, "A") for each in COMMON]
    events += [event(each, 2, "B") for each in RARE]
    events += [event(each, 3, "NOTE//admission", "a cough zanzibar") for each in COMMON]
    found = write_folder(folder, [])
    kinds = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    kinds |= {"numeric_value": pl.Float32, "text_value": pl.String}
    pl.DataFrame(events, schema=kinds).sort("subject_id", "time").write_parquet(found / "data" / "0.parquet")
    splits = {"subject_id": list(COMMON), "split": ["held_out"] * 11 + ["train"]}
    pl.DataFrame(splits).write_parquet(found / "metadata" / "subject_splits.parquet")
    return found


def read(path: Path) -> dict[str, dict[str, str]]:
    with path.open() as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def test_a_page_and_tables_tell_what_ten_patients_or_more_have(tmp_path: Path) -> None:
    folder, bundle, out = made(tmp_path / "data"), write_bundle(tmp_path / "model"), tmp_path / "out"
    assert main(["explain", str(bundle), str(folder), "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["codes.csv", "explanation.html", "notes.csv"]
    codes, words = read(out / "codes.csv"), read(out / "notes.csv")
    assert list(codes) == ["A"]  # five patients have B
    assert codes["A"]["patients"] == "12"
    assert float(codes["A"]["mean attribution"]) != 0
    assert set(words) == {"a", "cough"}
    page = (out / "explanation.html").read_text()
    for text in ("12 predictions", "What counts in codes", "What counts in notes", "mean attribution", "in log-odds"):
        assert text in page
    assert "1 more have fewer than 10 patients or no name, and are not told." in page
    assert page.count("Attributions miss what they should add up to by ") == 2
    assert "zanzibar" not in page
    assert "101" not in page.replace("base64", "").split("<h2")[0]


def test_only_patients_of_a_split_are_asked_for(tmp_path: Path) -> None:
    folder, bundle = made(tmp_path / "data"), write_bundle(tmp_path / "model")
    page = explain_folder(bundle, folder, tmp_path / "out", split="held_out")
    assert "11 predictions" in page.read_text()
    with pytest.raises(UsageError, match=r"subject_splits.parquet: unknown split 'heldout'; did you mean 'held_out'"):
        explain_folder(bundle, folder, tmp_path / "other", split="heldout")
    assert not (tmp_path / "other").exists()
    (folder / "metadata" / "subject_splits.parquet").unlink()
    with pytest.raises(UsageError, match=r"subject_splits\.parquet is missing"):
        explain_folder(bundle, folder, tmp_path / "other", split="held_out")


def test_an_encoder_without_single_items_says_so_in_a_line(tmp_path: Path) -> None:
    architecture = Architecture({"codes": Spec("bag"), "notes": Spec("tfidf")}, Spec("early"), 8)
    task = Task("multiclass", ("home", "ward"))
    folder, bundle = made(tmp_path / "data"), write_bundle(tmp_path / "model", task, architecture)
    page = explain_folder(bundle, folder, tmp_path / "out").read_text()
    assert page.count("This encoder cannot be attributed: no gradient leads back to single items.") == 2
    assert "What counts in codes, ward" in page
    assert {path.name for path in (tmp_path / "out").glob("*.csv")} == {"codes_home.csv", "codes_ward.csv"}
