"""Explanations of a bundle on a folder: a page and tables, and nothing of fewer than ten patients."""

from __future__ import annotations

import csv
import html
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from test_predict import event, write_bundle, write_folder, write_labels

from experiments.cli import main
from experiments.data.folder import open_dataset
from experiments.data.splits import split_fingerprint
from experiments.explaining.folder import explain_folder
from experiments.explaining.people import of_split
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
    assert main(["explain", str(bundle), str(folder), "-o", str(out), "--split", "all"]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["codes.csv", "explanation.html", "notes.csv"]
    codes, words = read(out / "codes.csv"), read(out / "notes.csv")
    assert list(codes) == ["A"]  # five patients have B
    assert codes["A"]["patients"] == "12"
    assert float(codes["A"]["mean attribution"]) != 0
    assert set(words) == {"a", "cough"}
    page = (out / "explanation.html").read_text()
    for text in (
        "12 predictions",
        "mean weight",
        "What counts in codes",
        "What counts in notes",
        "mean attribution",
        "in log-odds",
    ):
        assert text in page
    assert "1 more have fewer than 10 patients or no name, and are not told." in page
    assert page.count("Attributions miss what they should add up to by ") == 2
    assert "zanzibar" not in page
    assert "101" not in page.replace("base64", "").split("<h2")[0]


def test_only_patients_of_a_split_are_asked_for(tmp_path: Path) -> None:
    folder, bundle = made(tmp_path / "data"), write_bundle(tmp_path / "model")
    page, who = explain_folder(bundle, folder, tmp_path / "out", split="held_out")
    assert "11 predictions" in page.read_text()
    assert html.escape(who) in page.read_text()
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
    page = explain_folder(bundle, folder, tmp_path / "out").page.read_text()
    assert page.count("This encoder cannot be attributed: no gradient leads back to single items.") == 2
    assert "What counts in codes, ward" in page
    assert {path.name for path in (tmp_path / "out").glob("*.csv")} == {"codes_home.csv", "codes_ward.csv"}


def trained_here(folder: Path, **contract: object) -> tuple[Path, Path]:
    """A folder with labels, and a model that was trained on it with its own splits."""
    data = made(folder / "data")
    write_labels(data / "labels" / "death.parquet", list(COMMON), boolean_value=[False, True] * 6)
    splits = np.array(["held_out"] * 11 + ["train"])
    about = {"data_fingerprint": open_dataset(data).fingerprint, "label": "death"}
    about |= {"split_fingerprint": split_fingerprint(np.array(COMMON), splits)}
    return data, write_bundle(folder / "model", **(about | contract))


def test_who_is_held_out_is_explained_unless_others_are_asked_for(tmp_path: Path) -> None:
    folder, _ = trained_here(tmp_path)
    dataset = open_dataset(folder)
    table = pl.DataFrame({"subject_id": list(COMMON)})
    mine = {"data_fingerprint": dataset.fingerprint, "label": "death"}
    same = {"split_fingerprint": split_fingerprint(np.array(COMMON), np.array(["held_out"] * 11 + ["train"]))}
    other = {"split_fingerprint": "another"}
    trained = "some of whom the model was trained on, so that what it does with new patients may differ"
    default = "Only patients of the folder's split 'held_out'; --split all explains everybody"
    for split, contract, count, words in (
        (None, mine | same, 11, f"{default}. The model was not trained on them."),
        (None, mine | other, 11, f"{default}, {trained}."),
        (None, {"data_fingerprint": "x", **other}, 11, f"{default}; the model was trained on another folder."),
        ("train", mine | same, 1, f"Only patients of the folder's split 'train', {trained}."),
        ("all", mine | same, 12, f"All patients of the folder, {trained}."),
        ("all", {}, 12, "All patients of the folder; the model does not say what it was trained on, which may be "),
    ):
        kept, who = of_split(dataset, table, split, contract)
        assert len(kept) == count
        assert who.startswith(words)
    (folder / "metadata" / "subject_splits.parquet").unlink()
    kept, who = of_split(dataset, table, None, mine)
    assert len(kept) == 12
    assert who == f"All patients of the folder, which does not say who is held out, {trained}."
    assert len(of_split(dataset, table, "all", mine)[0]) == 12


def test_each_prediction_has_its_fusion_weights_in_a_file_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, bundle = trained_here(tmp_path)
    out, weights = tmp_path / "out", tmp_path / "weights.parquet"
    assert main(["explain", str(bundle), str(folder), "-o", str(out), "--weights", str(weights)]) == 0
    assert "The model was not trained on them." in capsys.readouterr().out
    found = pl.read_parquet(weights)
    assert found.columns == ["subject_id", "prediction_time", "weight_codes", "weight_notes"]
    assert found["subject_id"].to_list() == list(COMMON)[:11]
    assert found["weight_codes"].is_between(0, 1).all()
    assert not list(out.glob("*.parquet"))  # nothing beside the page that has ids
    mean = float(found["weight_codes"].mean())  # type: ignore[arg-type]
    assert f"<td class='number'>{mean:.3f}</td>" in (out / "explanation.html").read_text()


def test_a_fusion_of_one_view_has_no_weights(tmp_path: Path) -> None:
    architecture = Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec("early"), 8)
    folder, bundle = made(tmp_path / "data"), write_bundle(tmp_path / "model", architecture=architecture)
    with pytest.raises(UsageError, match="fusion 'early' has no view of each modality, so no weights to write"):
        explain_folder(bundle, folder, tmp_path / "out", weights=tmp_path / "weights.parquet")
    assert not (tmp_path / "out").exists()
    page = explain_folder(bundle, folder, tmp_path / "out").page.read_text()
    assert "Fusion &#x27;early&#x27; has no view of each modality" in page


def test_edges_of_the_graph_are_told_with_what_they_mean(tmp_path: Path) -> None:
    architecture = Architecture({"graph": Spec("ancestors")}, Spec("late"), 8)
    folder, bundle = made(tmp_path / "data"), write_bundle(tmp_path / "model", architecture=architecture)
    table = {"code": ["A", "ROOT"], "description": ["Anything", "The root"], "parent_codes": [["ROOT"], []]}
    pl.DataFrame(table).write_parquet(folder / "metadata" / "codes.parquet")
    page = explain_folder(bundle, folder, tmp_path / "out").page.read_text()
    assert "What counts in graph ancestors" in page
    (row,) = read(tmp_path / "out" / "graph_ancestors.csv").values()
    assert [row[each] for each in ("head", "relation", "tail", "meaning", "patients")] == [
        "codes below it", "is_a", "ROOT", "The root", "11",
    ]  # fmt: skip
    assert read(tmp_path / "out" / "graph.csv")["A"]["meaning"] == "Anything"
