"""Spoiled input: configurations, tables, images, graphs, models and encoders changed at random, and what came of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import strategies as st
from toy_pretraining import write_artefact
from toy_registry import write_bundle
from toy_spoil import spoiled_image, spoiled_json, spoiled_table, spoiled_tree

from encoders.artefact import ABOUT
from encoders.codes.vocabulary import CodeVocabulary
from experiments.bundle import MANIFEST, MODEL
from experiments.bundle import _sha256 as checksum
from experiments.cli import main

SECRET_ID, SECRET_WORD, SECRET_NAME = 918_273_000, "zqxcanary", "wvyname"
TABLES = ("data/00000.parquet", "metadata/codes.parquet", "metadata/subject_splits.parquet")
LABELS, EDGES = "labels/outcome.parquet", "graph/edges.parquet"
EXPERIMENT: dict[str, Any] = {
    "name": "small",
    "data": {"folder": "data", "preprocess": {"codes": {"max_events": 16}, "notes": {"max_tokens": 16}}},
    "model": {"encoders": {"codes": "bag", "notes": {"name": "bag", "dropout": 0.1}}, "fusion": "late", "dim": 8},
    "training": {"epochs": 1, "batch_size": 64, "lr": 1e-3, "metric": "auroc"},
    "tracking": {"enabled": False},
    "compare": {"seeds": 2, "resamples": 100},
}
SECTIONS: dict[str, dict[str, Any]] = {
    "pretrain": {"encoders": {"codes": "transformer", "notes": "transformer"}, "dim": 8, "epochs": 1, "batch_size": 64},
    "scaling": {
        "sizes": [{"dim": each, "layers": 1} for each in (4, 6, 8)],
        "shares": [0.3, 0.6, 1.0],
        "epochs": 1,
        "batch_size": 64,
    },
}
CPU_SECONDS = 60
Draw = Callable[[st.SearchStrategy[Any]], Any]


YAML_TRAPS = [b"!!python/object/apply:os.system ['false']", b"&a [*a]", b"[" * 3000, b"\t", b"\x00", b": :", b"%"]
YAML_TRAPS += [b"seed: 2020-13-45", b"\xff"]


def base(folder: Path, patients: int = 60) -> Path:
    """Write what is spoiled later: a data folder whose ids, notes and image names are easy to find again, a bundle."""
    from experiments.sources.synthetic import write_synthetic

    write_synthetic(folder / "data", patients=patients, seed=3, recipe="mixed", image_missing=0.8)
    for path in (folder / "data").rglob("*.parquet"):
        table = pl.read_parquet(path)
        if "subject_id" in table.columns:
            table = table.with_columns(pl.col("subject_id") + SECRET_ID)
        if "text_value" in table.columns:
            letters = pl.col("subject_id").cast(pl.String).str.replace_many(list("0123456789"), list("abcdefghij"))
            notes = pl.concat_str("text_value", pl.lit(f" {SECRET_WORD}"), letters)  # a word that one patient has
            table = table.with_columns(text_value=notes, image_path=_named(pl.col("image_path")))
        _write(table, path)
    for path in (folder / "data" / "images").rglob("*.png"):
        path.rename(path.with_name(f"{SECRET_NAME}{path.name}"))
    write_bundle(folder / "bundle")
    codes = pl.read_parquet(folder / "data" / TABLES[0])["code"].unique().sort().to_list()
    write_artefact(folder / "artefact", CodeVocabulary(tuple(codes), (0.0,) * len(codes), (1.0,) * len(codes)))
    return folder


def _named(path: pl.Expr) -> pl.Expr:
    return path.str.replace(r"/(\d+\.png)$", f"/{SECRET_NAME}${{1}}")


def _write(table: pl.DataFrame, path: Path) -> None:
    from experiments.sources.folder import write_table

    path.unlink(missing_ok=True)  # a link to a file that must stay as it is
    try:
        write_table(table, path)
    except Exception:  # a type that MEDS has not
        table.write_parquet(path)


@contextlib.contextmanager
def place(whole: Path) -> Iterator[Path]:
    """Work in a copy of the base, made of links, where the tracker does not answer."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # a configuration without one would make a database
        where = Path(folder) / "work"
        shutil.copytree(whole, where, copy_function=os.link)
        with contextlib.chdir(where):
            yield where


def spoil_config(draw: Draw) -> list[str]:
    """Change the text or the tree of a configuration."""
    tree = draw(spoiled_tree(EXPERIMENT))
    text = yaml.safe_dump(tree).encode()
    if draw(st.integers(0, 2)) == 0:
        at, new = draw(st.integers(0, len(text))), draw(st.binary(max_size=8) | st.sampled_from(YAML_TRAPS))
        text = text[:at] + new + text[at + draw(st.integers(0, 3)) :]
    Path("small.yaml").write_bytes(text)
    return ["train", "small.yaml"]


def spoil_table(draw: Draw) -> list[str]:
    """Change the events, the codes or the splits."""
    return _spoil(draw, draw(st.sampled_from(TABLES)), ["check", "predict", "train"])


def spoil_labels(draw: Draw) -> list[str]:
    """Change the labels."""
    return _spoil(draw, LABELS, ["check", "predict", "train"])


def spoil_graph(draw: Draw) -> list[str]:
    """Change the edges or the parents of codes."""
    return _spoil(draw, draw(st.sampled_from((EDGES, TABLES[1]))), ["check", "graph"])


def _spoil(draw: Draw, name: str, verbs: list[str]) -> list[str]:
    path = Path("data") / name
    changed = draw(spoiled_table(path))
    if isinstance(changed, bytes):
        path.unlink()
        path.write_bytes(changed)
    else:
        _write(changed, path)
    return _command(draw(st.sampled_from(verbs)))


def spoil_image(draw: Draw) -> list[str]:
    """Change an image."""
    path = min((Path("data") / "images").rglob("*.png"))
    changed = draw(spoiled_image(path))
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    return _command(draw(st.sampled_from(["check", "predict"])))


def spoil_bundle(draw: Draw) -> list[str]:
    """Flip a byte of a model folder, take a file away, or change its JSON under a right checksum."""
    _spoil_file(draw, Path("bundle"), _spoil_description)
    return _command("predict")


def spoil_artefact(draw: Draw) -> list[str]:
    """Do so to a pre-trained encoder, whose JSON has the checksum of its weights only."""
    _spoil_file(draw, Path("artefact"), _spoil_about)
    return _command("artefact")


def spoil_sections(draw: Draw) -> list[str]:
    """Change the settings of pre-training or of a scaling study."""
    verb = draw(st.sampled_from(sorted(SECTIONS)))
    changed = draw(spoiled_tree({verb: SECTIONS[verb]}))
    Path("small.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **changed}), encoding="utf-8")
    return [verb, "small.yaml"]


def _spoil_file(draw: Draw, folder: Path, describe: Callable[[Draw], None]) -> None:
    path = folder / draw(st.sampled_from(sorted(each.name for each in folder.iterdir())))
    content = path.read_bytes()
    path.unlink()
    how = draw(st.sampled_from(["flip", "cut", "gone", "json"]))
    if how == "flip":
        at = draw(st.integers(0, len(content) - 1))
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :])
    elif how == "cut":
        path.write_bytes(content[: draw(st.integers(0, len(content)))])
    elif how == "json":
        path.write_bytes(content)
        describe(draw)


def _spoil_about(draw: Draw) -> None:
    about = Path("artefact") / ABOUT
    changed = draw(spoiled_json(json.loads(about.read_text(encoding="utf-8"))))
    about.unlink()
    about.write_text(json.dumps(changed), encoding="utf-8")


def _spoil_description(draw: Draw) -> None:
    model, manifest = Path("bundle") / MODEL, Path("bundle") / MANIFEST
    changed = draw(spoiled_json(json.loads(model.read_text(encoding="utf-8"))))
    model.unlink()
    model.write_text(json.dumps(changed), encoding="utf-8")
    told = json.loads(manifest.read_text(encoding="utf-8"))
    told["sha256"][MODEL] = checksum(model)
    manifest.unlink()
    manifest.write_text(json.dumps(told), encoding="utf-8")


def _command(verb: str) -> list[str]:
    if verb == "check":
        return ["data", "check", "data"]
    if verb == "predict":
        return ["predict", "bundle", "data", "-o", "out.parquet", "--labels", "outcome"]
    chosen = {"graph": {"graph": "ancestors"}, "artefact": {"codes": {"name": "artefact", "path": "artefact"}}}
    encoders = chosen.get(verb, EXPERIMENT["model"]["encoders"])
    tree = {**EXPERIMENT, "model": {"encoders": encoders, "fusion": "late", "dim": 8}}
    Path("small.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return ["train", "small.yaml"]


SPOILS: dict[str, Callable[[Draw], list[str]]] = {
    "configurations": spoil_config,
    "tables": spoil_table,
    "labels": spoil_labels,
    "graphs": spoil_graph,
    "images": spoil_image,
    "model folders": spoil_bundle,
    "pre-trained encoders": spoil_artefact,
    "sections": spoil_sections,
}


def outcome(arguments: list[str]) -> str:
    """Run a command that must end well or be refused in one line, and say which.

    Raises:
        AssertionError: it did neither, told of a patient, or left something half-written.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _no_noise(), _in_time():
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
    text = out.getvalue() + err.getvalue()
    for secret in (str(SECRET_ID)[:6], SECRET_WORD, SECRET_NAME, "Traceback"):
        assert secret not in text, f"{arguments}: '{secret}' in {text[-600:]}"
    assert not list(Path().rglob("*.partial-*")), "something half-written is left"
    if code == 2:
        lines = err.getvalue().strip().splitlines()
        assert len(lines) == 1, err.getvalue()
        assert lines[0].startswith("ehrfusion"), lines
        assert not Path("out.parquet").exists()
        return "refused in one line"
    if code == 1:
        assert arguments[:2] == ["data", "check"], text
        return "errors listed"
    assert code == 0, text
    return "done"


@contextlib.contextmanager
def _no_noise() -> Iterator[None]:
    """Check that nothing is written to the terminal behind Python's back, as threads of Rust do that panic."""
    before = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        noise = file.read().decode(errors="replace")
    assert not noise, noise[:600]


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"hangs: more than {CPU_SECONDS} s of CPU")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
