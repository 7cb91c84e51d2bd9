"""Nothing of a patient leaves the data folder: ids, note text, image names and bytes are sought in all that is left."""

from __future__ import annotations

import gzip
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from toy_fuzz import SECRET_ID, SECRET_NAME, SECRET_WORD, base
from toy_search import preloaded  # noqa: F401 - a fixture

from experiments.cli import main

STUDY: dict[str, Any] = {
    "name": "small",
    "data": {
        "folder": "data",
        "preprocess": {"codes": {"max_events": 16}, "notes": {"max_tokens": 32}, "images": {"size": 8}},
    },
    "training": {"epochs": 1, "batch_size": 64},
    "space": {"encoders": {"codes": "bag", "notes": "bag", "images": "conv"}, "fusion": ["late", "early"], "dim": 8},
    "search": {"trials": 2, "workers": 1},
    "compare": {"seeds": 1, "resamples": 100},
}


def contents(path: Path) -> Iterator[bytes]:
    """Yield what a file holds, also what is compressed in it and the cells of a database."""
    raw = path.read_bytes()
    yield raw
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if raw[:6] == b"SQLite":
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()


def secrets(data: Path) -> list[bytes]:
    """Return what must not be found: the canaries, ids as numbers of 8 bytes, and a piece of each image."""
    ids = pl.read_parquet(data / "labels" / "outcome.parquet")["subject_id"].to_list()
    pieces = [path.read_bytes()[50:90] for path in (data / "images").rglob("*.png")]
    texts = [str(SECRET_ID)[:6].encode(), SECRET_WORD.encode(), SECRET_NAME.encode(), b"zqxpassword"]
    return [*texts, *(each.to_bytes(8, "little") for each in ids), *pieces]


def found(text: bytes, sought: list[bytes]) -> list[bytes]:
    return [each for each in sought if each in text]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    data = base(tmp_path) / "data"
    sought = secrets(data)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(data / "labels" / "outcome.parquet")
        archive.writestr("note", f"{SECRET_WORD} " * 50)
    assert SECRET_WORD.encode() in [each for text in contents(tmp_path / "a.zip") for each in found(text, sought)]
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("create table a (b)")
        database.execute("insert into a values (?)", [SECRET_ID + 1])
    assert found(b"".join(contents(tmp_path / "a.db")), sought) == [str(SECRET_ID)[:6].encode()]
    image = min((data / "images").rglob("*.png")).read_bytes()
    assert found(image, sought)


@pytest.mark.slow
def test_nothing_of_a_patient_is_left_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = base(tmp_path, patients=160) / "data"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sought = secrets(data)
    Path("small.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    assert main(["data", "check", "data"]) == 0
    assert main(["search", "small.yaml"]) == 0
    assert main(["compare", "small", "--workers", "1"]) == 0
    assert main(["register", "small", "--name", "tiny", "--top", "1", "--seeds", "1", "--workers", "1"]) == 0
    assert main(["predict", "models:/tiny@candidate", "data", "-o", "predictions.parquet", "--labels", "outcome"]) == 0
    assert main(["report", "small"]) == 0
    _fail(data)
    output = capfd.readouterr()
    assert found((output.out + output.err).encode(), sought) == []
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    left = [path for path in left if data not in path.parents and path.name != "predictions.parquet"]
    assert {"mlflow.db", "study.db", "report.html", "comparison.html", "predictions.npz", "model.json"} <= {
        each.name for each in left
    }
    for path in left:
        if path.name != "study.yaml" or "spoiled" not in path.parts:
            assert [each for text in contents(path) for each in found(text, sought)] == [], path


ALONE: dict[str, Any] = {
    "name": "alone",
    "data": STUDY["data"],
    "model": {"encoders": {"codes": "bag"}, "fusion": "late", "dim": 8},
    "training": {"epochs": 1, "batch_size": 64},
    "pretrain": {"encoders": {"codes": "transformer", "notes": "transformer"}, "dim": 8, "epochs": 1, "batch_size": 32},
    "scaling": {
        "sizes": [{"dim": each, "layers": 1} for each in (4, 6, 8)],
        "shares": [0.3, 0.6, 1.0],
        "epochs": 1,
        "batch_size": 64,
    },
}
OWNERS = ("texts.jsonl", "one.md", "made", "filled", "odd.parquet", "odd.png", "runs/alone/pretrained")


def test_nothing_of_a_patient_is_left_by_what_needs_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Texts, synthetic and imputed rows, scores of records, pre-trained encoders, scaling studies, labels of a task."""
    data = base(tmp_path) / "data"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sought = secrets(data)
    Path("alone.yaml").write_text(yaml.safe_dump(ALONE), encoding="utf-8")
    artefact = ["model.encoders.codes={name: artefact, path: runs/alone/pretrained/codes}"]
    for command in (
        ["data", "text", "data", "texts.jsonl"],
        ["data", "text", "data", "one.md", "--row", "1"],
        ["data", "synthesise", "data", "made", "--steps", "10"],
        ["data", "impute", "data", "filled", "--steps", "10"],
        ["data", "check", "data", "--anomalies", "odd.parquet", "--steps", "10"],
        ["pretrain", "alone.yaml"],
        ["scaling", "alone.yaml"],
        ["train", "alone.yaml", *artefact],
    ):
        assert main(command) == 0, command
    for command in (
        ["data", "text", "data", "texts.jsonl"],
        ["data", "text", "data", "none.md", "--row", "60"],
        ["data", "impute", "data", "data", "--overwrite"],
        ["pretrain", "alone.yaml", "pretrain.encoders={codes: bagg}"],
        ["train", "alone.yaml", "model.encoders.codes={name: artefact, path: runs/alone/pretrained/notes}"],
    ):
        assert main(command) == 2, command
    output = capfd.readouterr()
    assert found((output.out + output.err).encode(), sought) == []
    assert "Traceback" not in output.err
    private = [tmp_path / each for each in OWNERS]
    for path in [each for owned in private for each in (owned, *owned.rglob("*"))]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    for path in (each for each in tmp_path.rglob("*") if each.is_file()):
        ours = {data, tmp_path / "runs" / "cache", tmp_path / "texts.jsonl", *private[:6]} - {tmp_path / "made"}
        if not ours & {path, *path.parents}:
            assert [each for text in contents(path) for each in found(text, sought)] == [], path


def _fail(data: Path) -> None:
    """Spoil an image and a patient's value, each in its own way, and have it refused."""
    image = min((data / "images").rglob("*.png"))
    image.write_bytes(b"no picture")
    spoiled = {**STUDY, "name": "spoiled", "tracking": {"uri": "http://ann:zqxpassword@127.0.0.1:9"}}
    Path("spoiled.yaml").write_text(yaml.safe_dump(spoiled | {"tracking": {"enabled": False}}), encoding="utf-8")
    assert main(["search", "spoiled.yaml"]) == 2
    assert main(["predict", "models:/tiny@candidate", "data", "-o", "none.parquet"]) == 2
    assert main(["train", "small.yaml", "tracking.uri=ftp://ann:zqxpassword@host"]) == 2
    labels = data / "labels" / "outcome.parquet"
    table = pl.read_parquet(labels)
    pl.concat([table, table.head(1)]).write_parquet(labels)
    assert main(["search", "spoiled.yaml"]) == 2
    assert main(["data", "check", "data"]) == 1
