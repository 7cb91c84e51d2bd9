"""The command line: quick help, one clear line for every mistake, nothing half-written; and the main job, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from experiments.cli import main

HEAVY = ("torch", "polars", "mlflow", "optuna", "transformers", "pyarrow", "numpy", "pydantic")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder and without the user's tracker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail: exit code 2, one line, and no file that was not there before."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    try:
        code: Any = main([str(each) for each in arguments])
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    assert code == 2, shown.err
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("ehrfusion")
    assert "Traceback" not in shown.out + shown.err
    left = [path for path in sorted(Path().rglob("*")) if path not in before and "cache" not in path.parts]
    assert [path for path in left if path.is_file()] == []
    return lines[0]


def config(folder: Path, **parts: Any) -> Path:
    """Write a small study."""
    data = {
        "name": "small",
        "data": {"folder": str(folder), "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 2, "batch_size": 32},
        "space": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": ["late", "early"], "dim": 8},
        "search": {"trials": 2},
        "compare": {"seeds": 1, "folds": 1, "resamples": 100},
        "tracking": {"enabled": False},
        **parts,
    }
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_help_imports_nothing_heavy() -> None:
    text = (
        "import sys; from experiments.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print([each for each in {HEAVY} if each in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "search" in done.stdout


def test_data_are_converted_checked_and_labelled_without_torch() -> None:
    modules = ("mimic", "eicu", "omop", "meds", "tabular", "covid_cxr", "synthetic")
    names = [*(f"experiments.sources.{each}" for each in modules), "experiments.data.check", "experiments.tasks.write"]
    text = f"import sys, {', '.join(names)}\nprint([each for each in sys.modules if each.split('.')[0] == 'torch'])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serch"], "did you mean 'search'?"),
        (["data", "synthtic", "x"], "did you mean 'synthetic'?"),
        (["search", "demo", "--workers", "0"], "must be a whole number from 1 up; got '0'"),
        (["search", "demo", "--workers", "two"], "must be a whole number from 1 up; got 'two'"),
        (["data", "synthetic", "x", "--patients", "-5"], "must be a whole number from 1 up; got '-5'"),
        (["data", "synthetic", "x", "--note-missing", "1.5"], "must be from 0 to 1; got '1.5'"),
        (["data", "synthetic", "x", "--recipe", "synergi"], "did you mean 'synergy'?"),
        (["data", "check", "nowhere"], "nowhere"),
        (["data", "eicu", "nowhere", "out"], "nowhere"),
        (["data", "covid-cxr", "nowhere", "out"], "nowhere"),
        (["data", "mimic3", "nowhere", "out"], "nowhere"),
        (["data", "mimic4", "nowhere", "out", "--hours", "0"], "must be a whole number from 1 up; got '0'"),
        (["search", "demoo"], "did you mean 'demo'?"),
        (["search", "missing.yaml"], "no such file: missing.yaml"),
        (["search", "demo", "search.trails=3"], "did you mean 'search.trials'?"),
        (["search", "demo", "training.lr=fast"], "training.lr"),
        (["search", "demo", "--status"], "study 'demo' was not started yet; run: ehrfusion search demo"),
        (["compare", "demo", "--by", "colour"], "fusion"),
        (["register", "demo", "--name", "x"], "was not started yet"),
        (["report", "demo"], "was not started yet"),
        (["components", "cros_attention"], "cross_attention"),
        (["predict", "models:/none@champion", "nowhere", "-o", "out.parquet"], "none"),
        (["predict", "bundle", "nowhere", "-o", "out.parquet"], "nowhere"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_wrong_command_is_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert text in refused(capsys, *arguments)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            {"space": {"encoders": {"codes": "bagg"}}},
            "space.encoders.codes: unknown component 'bagg'; did you mean 'bag'?",
        ),
        (
            {"space": {"encoders": {"codes": {"gru": {"layer": 2}}}}},
            "space.encoders.codes.gru: unknown hyperparameter 'layer'; did you mean 'layers'?",
        ),
        ({"space": {"encoders": {"note": "bag"}}}, "unknown modality 'note'; did you mean 'notes'?"),
        ({"training": {"epochs": "many"}}, "training.epochs"),
        ({"training": {"epoch": 3}}, "small.yaml: unknown key 'training.epoch'; did you mean 'training.epochs'?"),
        ({"search": {"trials": 2, "seconds": 5}}, "exactly one of 'trials', 'epochs', 'seconds' and 'flops'"),
        ({"search": {"trials": 2, "storage": "postgresql://ann:secret@127.0.0.1:1/x"}}, "does not answer"),
        ({"search": {"trials": 2, "storage": "sqlite:///nowhere/study.db"}}, "nowhere does not exist"),
    ],
    ids=str,
)
def test_wrong_study_is_one_line(
    small_folder: Path, parts: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "search", config(small_folder, **parts))
    assert text in line
    assert "secret" not in line


def test_unreadable_yaml_and_yaml_numbers(small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("name: [", encoding="utf-8")
    assert "bad.yaml: not readable as YAML" in refused(capsys, "search", "bad.yaml")
    path = config(small_folder)
    path.write_text(path.read_text(encoding="utf-8") + "seed: 1e-3\n", encoding="utf-8")
    assert "seed" in refused(capsys, "search", path)  # a number, but not a whole one


@pytest.mark.parametrize("kind", ["labels", "splits", "one class", "duplicate", "column", "image"])
def test_wrong_data_is_one_line(
    small_folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    folder = Path(shutil.copytree(small_folder, tmp_path / "data"))
    labels, splits = folder / "labels" / "outcome.parquet", folder / "metadata" / "subject_splits.parquet"
    table, split = pl.read_parquet(labels), pl.read_parquet(splits)
    encoders: dict[str, Any] = {"codes": "bag"}
    if kind == "labels":
        table.with_columns(boolean_value=pl.lit("maybe")).write_parquet(labels)
        text = "outside its kind"
    elif kind == "splits":
        pl.concat([split, split.head(1).with_columns(split=pl.lit("held_out"))]).write_parquet(splits)
        text = "split"
    elif kind == "one class":
        table.with_columns(boolean_value=pl.lit(True)).write_parquet(labels)
        text = "has one class only"
    elif kind == "duplicate":
        pl.concat([table, table.head(1)]).write_parquet(labels)
        text = "row 160: repeats a subject and prediction time"
    elif kind == "column":
        shard = folder / "data" / "00000.parquet"
        pl.read_parquet(shard).with_columns(numeric_value=pl.lit("x")).write_parquet(shard)
        text = "numeric_value"
    else:
        image = min((folder / "images").rglob("*.png"))
        image.write_bytes(b"no picture")
        encoders, text = {"images": "conv"}, "unreadable"
    assert text in refused(capsys, "search", config(folder, space={"encoders": encoders, "dim": 8}))


def test_main_job(small_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = config(small_folder, tracking={})
    assert main(["data", "check", str(small_folder)]) == 0
    assert main(["search", str(study), "--workers", "1"]) == 0
    assert "small: all trials done" in capsys.readouterr().out
    assert main(["search", str(study), "--workers", "1"]) == 0  # nothing is left to do
    assert main(["compare", "small", "--workers", "1"]) == 0
    assert "best single modality" in capsys.readouterr().out
    assert main(["register", "small", "--name", "tiny", "--top", "1", "--seeds", "1", "--promote"]) == 0
    assert len(Path("runs/small/held_out.jsonl").read_text(encoding="utf-8").splitlines()) == 1
    arguments = ["predict", "models:/tiny@champion", str(small_folder), "-o", "out.parquet", "--labels", "outcome"]
    assert main(arguments) == 0
    assert pl.read_parquet("out.parquet").height == 160
    changed = config(small_folder, space={"encoders": {"codes": "gru"}, "dim": 8})
    assert "exists with another space" in refused(capsys, "search", changed)


def test_who_has_read_enough_is_no_mistake() -> None:
    """`ehrfusion tasks --schema | head -1`: no line about a pipe, and nothing at the end of the process."""
    shown = "import sys; from experiments.cli import main; sys.exit(main(['tasks', '--schema']))"
    with subprocess.Popen([sys.executable, "-c", shown], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 1
