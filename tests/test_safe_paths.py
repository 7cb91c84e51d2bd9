"""Paths and addresses in input: nothing leads out of its folder, no password is shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import polars as pl
import pytest
from toy_pretraining import load_artefact, write_artefact
from toy_registry import write_bundle
from toy_store import PLANS, folder, open_at  # noqa: F401 - a fixture

from experiments.bundle import CARD, load_bundle
from experiments.cli import main
from experiments.config import load_config, parse_config
from experiments.data.check import check
from experiments.data.folder import open_dataset
from experiments.data.reader import iterate_records
from experiments.predict import predict_folder
from experiments.services import storage_check
from experiments.sources.folder import new_folder, write_table
from experiments.tracking import registry
from experiments.tracking.runs import connect
from experiments.whole import whole_file, whole_folder
from fusion.component import UsageError, masked
from search.storage import open_storage

PASSWORD = "zqxsecret"


def link(target: Path, path: Path) -> str:
    path.symlink_to(target)
    return path.relative_to(path.parents[1]).as_posix() if path.parent.name == "images" else path.name


def away(how: str, outside: Path, folder: Path) -> str:
    """Name a file outside a folder as data in the folder might."""
    if how == "link":
        return link(outside, folder / "images" / "link.png")
    if how == "folder that is a link":
        return f"{link(outside.parent, folder / 'away')}/{outside.name}"
    return f"../{outside.name}" if how == "dots" else str(outside)


@pytest.mark.parametrize("how", ["dots", "root", "link", "folder that is a link"])
def test_an_image_outside_the_folder_is_not_read(folder: Path, how: str) -> None:
    image = min((folder / "images").rglob("*.png"))
    outside = folder.parent / "zqxoutside.png"
    outside.write_bytes(image.read_bytes())
    shard = folder / "data" / "00000.parquet"
    table = pl.read_parquet(shard)
    name = away(how, outside, folder)
    write_table(table.with_columns(image_path=pl.when(pl.col("image_path").is_not_null()).then(pl.lit(name))), shard)
    row = int(table["image_path"].is_not_null().arg_true()[0])
    dataset = open_dataset(folder)
    subjects, times = table["subject_id"].unique().to_numpy(), np.datetime64("2200-01-01", "us")
    text = rf"data/00000\.parquet: row {row}: image_path: leads out of the data folder, by '..', a root or a link$"
    with pytest.raises(UsageError, match=text) as raised:
        list(iterate_records(dataset, subjects, np.full(len(subjects), times)))
    assert "zqxoutside" not in str(raised.value)
    found = check(folder).problems
    assert any(each.row == row and each.message.startswith("leads out of the data folder") for each in found)


def test_a_folder_that_is_itself_a_link_is_fine(folder: Path) -> None:
    (folder.parent / "linked").symlink_to(folder)
    assert open_dataset(folder.parent / "linked").image("images/a.png").name == "a.png"


@pytest.mark.parametrize("labels", ["../elsewhere", "{outside}", "linked", ".."])
def test_labels_outside_the_folder(folder: Path, labels: str) -> None:
    outside = folder.parent / "elsewhere.parquet"
    outside.write_bytes((folder / "labels" / "outcome.parquet").read_bytes())
    (folder / "labels" / "linked.parquet").symlink_to(outside)
    (folder.parent / "elsewhere").mkdir()
    with pytest.raises(UsageError, match=r"leads out of the data folder; give a name in labels$"):
        open_dataset(folder).label_path(labels.format(outside=outside))


@pytest.mark.parametrize("name", ["../x", "a/b", "/x", "..", "", "a\n", ".hidden", "a" * 300])
def test_names_that_become_folders(name: str) -> None:
    data = {"name": name, "data": {"folder": "d"}, "model": {"encoders": {"codes": "bag"}}}
    with pytest.raises(UsageError, match="config: name: "):
        parse_config(data)
    with pytest.raises(UsageError, match="a model's name has"):
        registry.check_name(name)


def test_a_member_of_a_bundle_that_is_a_link(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / CARD).rename(tmp_path / "card.md")
    (bundle / CARD).symlink_to(tmp_path / "card.md")
    with pytest.raises(UsageError, match=r"card\.md: a link that leads out of the bundle"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "encoder.json"])
def test_a_member_of_an_artefact_that_is_a_link(tmp_path: Path, name: str) -> None:
    artefact = write_artefact(tmp_path / "codes")
    (tmp_path / "linked").symlink_to(artefact)
    load_artefact(tmp_path / "linked")  # the folder itself may be a link
    (artefact / name).rename(tmp_path / name)
    (artefact / name).symlink_to(tmp_path / name)
    with pytest.raises(UsageError, match=rf"{name}: a link that leads out of the artefact"):
        load_artefact(artefact)


@pytest.mark.parametrize(
    "spoiled", [{"center": [0, "x", 0]}, {"codes": [[], {}, "a"]}, {"scale": [1]}, {"max_events": {}}]
)
def test_a_vocabulary_of_an_artefact_that_makes_no_sense(tmp_path: Path, spoiled: dict[str, object]) -> None:
    """Its JSON has no checksum, and what is wrong with it shows only when a record is encoded."""
    artefact = write_artefact(tmp_path / "codes")
    about = json.loads((artefact / "encoder.json").read_text(encoding="utf-8"))
    about["preprocessor"]["data"] |= spoiled
    (artefact / "encoder.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(UsageError, match=r"encoder\.json: its preprocessor is damaged \(\w+\)"):
        load_artefact(artefact)


def test_an_artefact_that_is_another_one(tmp_path: Path) -> None:
    artefact = write_artefact(tmp_path / "codes")
    about = json.loads((artefact / "encoder.json").read_text(encoding="utf-8"))
    about["encoder"] = {"name": "artefact", "params": {"path": "../elsewhere"}}
    (artefact / "encoder.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(UsageError, match="its encoder is an artefact itself, from another folder"):
        load_artefact(artefact)


def test_a_registered_model_that_names_a_bundle_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flavors = {"python_function": {"artifacts": {"bundle": {"path": "../../elsewhere"}}}}
    monkeypatch.setattr(registry, "_find", lambda *_: SimpleNamespace(version=1))
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **_: str(tmp_path))
    monkeypatch.setattr(registry.Model, "load", lambda _: SimpleNamespace(flavors=flavors))
    client = SimpleNamespace(get_model_version_download_uri=lambda *_: "x")
    with pytest.raises(UsageError, match="its MLmodel names a bundle outside the model; do not trust it"):
        registry.resolve("models:/a/1", SimpleNamespace(client=client, uri="x", shown="x"), tmp_path / "new")  # type: ignore[arg-type]


def study_with_two_budgets(tmp_path: Path) -> None:
    address = f"postgresql://ann:{PASSWORD}@127.0.0.1:1/x"
    search = {"trials": 2, "seconds": 5, "storage": address}
    parse_config({"name": "a", "data": {"folder": "d"}, "space": {"encoders": {"codes": "bag"}}, "search": search})


def broken_yaml(tmp_path: Path) -> None:
    text = f"search:\n  storage: postgresql://ann:{PASSWORD}@host/x\n  trials: [2\n"
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    load_config(tmp_path / "a.yaml")


def wrong_override(tmp_path: Path) -> None:
    load_config("demo", [f"training.lr=http://ann:{PASSWORD}@host"])


MISTAKES: dict[str, Callable[[Path], object]] = {
    "two budgets": study_with_two_budgets,
    "broken yaml": broken_yaml,
    "override": wrong_override,
    "no such kind of tracker": lambda folder: connect(f"ftp://ann:{PASSWORD}@host", folder),
    "tracker away": lambda folder: connect(f"http://ann:{PASSWORD}@127.0.0.1:9", folder),
    "no address": lambda folder: connect(f"http://ann:{PASSWORD}@[host", folder),
    "storage": lambda _: open_storage(f"postgresql://ann:{PASSWORD}@127.0.0.1:1/x?password={PASSWORD}"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_passwords_are_masked_in_errors(tmp_path: Path, mistake: str) -> None:
    with pytest.raises(UsageError) as raised:
        MISTAKES[mistake](tmp_path)
    assert PASSWORD not in str(raised.value)


def test_passwords_are_masked_in_what_doctor_shows_and_in_any_text() -> None:
    shown = storage_check(f"postgresql://ann:{PASSWORD}@127.0.0.1:1/x")
    assert PASSWORD not in shown.detail
    assert masked("at http://a:b@h:5000 and postgresql+psycopg://c:d@e@f/g?password=h&x=1") == (
        "at http://a:***@h:5000 and postgresql+psycopg://c:***@f/g?password=***&x=1"
    )
    assert masked("https://glpat-abc@h/x postgresql://ann@h/x") == "https://***@h/x postgresql://ann@h/x"
    assert masked("sqlite:////data/study.db 12:30 a@b") == "sqlite:////data/study.db 12:30 a@b"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_files_with_patients_are_for_their_owner(folder: Path, tmp_path: Path) -> None:
    store = open_at(folder, tmp_path / "cache")
    store.prepare(PLANS[:1])
    prepared = store.folder(PLANS[0])
    assert (mode(prepared), {mode(each) for each in prepared.iterdir()}) == (0o700, {0o600})
    predict_folder(write_bundle(tmp_path / "bundle"), folder, tmp_path / "out.parquet")
    assert mode(tmp_path / "out.parquet") == 0o600
    assert mode(tmp_path / "bundle" / CARD) == 0o644  # a model is there to be shared
    with whole_file(tmp_path / "a", private=True) as temporary:
        assert mode(temporary) == 0o600
        temporary.write_text("a", encoding="utf-8")
    with whole_folder(tmp_path / "b", private=True) as temporary:
        assert mode(temporary) == 0o700
        (temporary / "c").mkdir()
        (temporary / "c" / "d").write_text("d", encoding="utf-8")
    assert [mode(tmp_path / each) for each in ("a", "b", "b/c", "b/c/d")] == [0o600, 0o700, 0o700, 0o600]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_converted_data_are_for_their_owner(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as made:
        (made / "data" / "a.parquet").write_bytes(b"")
    assert [mode(tmp_path / each) for each in ("out", "out/data", "out/data/a.parquet")] == [0o700, 0o700, 0o600]


def test_a_damaged_description_of_a_dataset(folder: Path) -> None:
    described = [
        "[]",
        "{",
        '{"additional_value_modality_columns": "image_path"}',
        '{"site_id_columns": [3]}',
    ]
    for text in described:
        (folder / "metadata" / "dataset.json").write_text(text, encoding="utf-8")
        dataset = open_dataset(folder)
        with pytest.raises(UsageError, match=r"dataset\.json: "):
            print(dataset.image_column, dataset.site_column)
    (folder / "cohort.json").write_text(json.dumps({"labels": {"outcome": [1]}}), encoding="utf-8")
    with pytest.raises(UsageError, match=r"cohort\.json: 'labels' must give"):
        open_dataset(folder).flow()


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file, where a folder must be", encoding="utf-8")
    assert main(["data", "synthetic", "taken/data", "--patients", "50"]) == 2
    assert capsys.readouterr().err.strip() == "ehrfusion: File exists: a file in ."  # it might be named after a patient
