"""Predictions of a folder: the MEDS evaluation schema, everybody gets one, and doubts are said in a line."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from encoders import ENCODERS
from encoders.preprocessor import preparation
from encoders.records import CodeEvents, Edge, Knowledge, Note, Record
from experiments.bundle import load_bundle, save_bundle
from experiments.feeding import build_model
from experiments.predict import predict_folder
from fusion import Architecture, Spec, Task, UsageError

ARCHITECTURE = Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec("late"), 8)
BINARY = Task("binary", ("death",))
KNOWLEDGE = Knowledge((Edge("A", "is_a", "ROOT"), Edge("B", "is_a", "ROOT")))
NEW_YEAR = datetime(2026, 1, 1)


def write_bundle(folder: Path, task: Task = BINARY, architecture: Architecture = ARCHITECTURE, **contract: Any) -> Path:
    note = Note("a cough", 1.0, "admission")
    events = CodeEvents(("A", "B"), np.array([2, 1], np.float32), np.full(2, np.nan, np.float32))
    plans = {name: preparation(ENCODERS[name], name, spec) for name, spec in architecture.encoders.items()}
    people = [Record(events, (note,))] * 4
    ready = {name: plan.preprocessor.fit(people, KNOWLEDGE, **plan.options) for name, plan in plans.items()}
    torch.manual_seed(0)
    model = build_model(architecture, ready, task.outputs).eval()
    return save_bundle(folder, model, architecture, task, ready, plans, {"window_days": None, **contract}, {})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "model")


def event(subject: int, day: int | None, code: str, text: str | None = None) -> dict[str, Any]:
    time = None if day is None else datetime(2026, 1, day)
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": None, "text_value": text}


EVENTS = [
    event(1, 1, "A"),
    event(1, 3, "B"),
    event(1, 3, "NOTE//admission", "a cough"),
    event(2, 2, "A"),
    event(3, 4, "NOTE//progress", "no cough"),
    event(4, 5, "Z"),
    event(5, None, "GENDER//F"),
]


def write_folder(folder: Path, events: list[dict[str, Any]] = EVENTS) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "metadata").mkdir()
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "made up"}), encoding="utf-8")
    kinds = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "numeric_value": pl.Float32,
        "text_value": pl.String,
    }
    table = pl.DataFrame(events, schema=kinds)
    for shard, subjects in enumerate(([1, 2, 3], [4, 5])):
        part = table.filter(pl.col("subject_id").is_in(subjects))
        if len(part):
            part.write_parquet(folder / "data" / f"{shard}.parquet")
    return folder


def write_labels(path: Path, subjects: list[int], **values: list[Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    times = pl.Series([NEW_YEAR.replace(day=6)] * len(subjects), dtype=pl.Datetime("us"))
    pl.DataFrame({"subject_id": subjects, "prediction_time": times, **values}).write_parquet(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def test_everybody_is_predicted_at_their_last_event(bundle: Path, folder: Path, tmp_path: Path) -> None:
    done = predict_folder(bundle, folder, tmp_path / "new" / "out.parquet")
    table = pl.read_parquet(done.path)
    assert dict(table.schema) == {
        "subject_id": pl.Int64,
        "prediction_time": pl.Datetime("us"),
        "predicted_boolean_value": pl.Boolean,
        "predicted_boolean_probability": pl.Float64,
    }
    assert table["subject_id"].to_list() == [1, 2, 3, 4, 5]
    days = [each.day for each in table["prediction_time"]]
    assert days == [3, 2, 4, 5, 5]  # the last has no dated event
    chances = table["predicted_boolean_probability"]
    assert chances.is_between(0, 1).all()
    assert (table["predicted_boolean_value"] == (chances >= 0.5)).all()
    assert done.rows == 5
    assert [path.name for path in done.path.parent.iterdir()] == ["out.parquet"]


def test_predictions_are_those_of_the_records(bundle: Path, folder: Path, tmp_path: Path) -> None:
    predict_folder(bundle, folder, tmp_path / "out.parquet", batch_size=2)
    nan = np.full(1, np.nan, np.float32)
    both = Record(
        CodeEvents(("A", "B"), np.array([2, 0], np.float32), np.full(2, np.nan, np.float32)),
        (Note("a cough", 0.0, "admission"),),
    )
    one = Record(CodeEvents(("A",), np.zeros(1, np.float32), nan))
    expected = load_bundle(bundle).predict_records([both, one])
    found = pl.read_parquet(tmp_path / "out.parquet")["predicted_boolean_probability"].to_numpy()[:2]
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-5)


def test_labels_give_times_and_truths(bundle: Path, folder: Path, tmp_path: Path) -> None:
    write_labels(folder / "labels" / "death.parquet", [2, 1, 99], boolean_value=[True, False, True])
    done = predict_folder(bundle, folder, tmp_path / "out.parquet", labels="death")
    table = pl.read_parquet(done.path)
    assert table["subject_id"].to_list() == [1, 2, 99]
    assert table["boolean_value"].to_list() == [False, True, True]
    assert table["boolean_value"].dtype == pl.Boolean
    assert table["prediction_time"].to_list() == [NEW_YEAR.replace(day=6)] * 3
    assert table["predicted_boolean_probability"].is_finite().all()  # also of a patient without any event
    assert done.nothing == 1
    assert done.warnings == ("1 of 3 patients have nothing that the model reads",)


def test_the_evaluation_tool_of_meds_reads_predictions_with_labels(bundle: Path, folder: Path, tmp_path: Path) -> None:
    why = "meds-evaluation is not installed: pip install meds-evaluation"
    evaluation = pytest.importorskip("meds_evaluation.evaluate", reason=why)
    write_labels(folder / "labels" / "death.parquet", [1, 2, 3, 4], boolean_value=[True, False, True, False])
    done = predict_folder(bundle, folder, tmp_path / "out.parquet", labels="death")
    table = pl.read_parquet(done.path)
    found = evaluation.evaluate_binary_classification(table)["samples_equally_weighted"]
    chances = table["predicted_boolean_probability"].to_numpy()
    died, lived = chances[[0, 2]], chances[[1, 3]]
    wins = (died[:, None] > lived).mean() + (died[:, None] == lived).mean() / 2  # what an AUROC is
    assert found["roc_auc_score"] == pytest.approx(wins)
    assert found["binary_accuracy"] == ((chances >= 0.5) == table["boolean_value"].to_numpy()).mean()


def test_a_label_file_may_hold_times_alone(bundle: Path, folder: Path, tmp_path: Path) -> None:
    write_labels(folder / "labels" / "when.parquet", [3, 2])
    done = predict_folder(bundle, folder, tmp_path / "out.parquet", labels="when")
    assert pl.read_parquet(done.path)["subject_id"].to_list() == [2, 3]


def test_nothing_after_the_prediction_time_counts(bundle: Path, tmp_path: Path) -> None:
    later = [*EVENTS, event(1, 20, "B"), event(1, 20, "NOTE//discharge", "no fever but cough")]
    found = []
    for name, events in (("early", EVENTS), ("late", later)):
        folder = write_folder(tmp_path / name, events)
        write_labels(folder / "labels" / "death.parquet", [1], boolean_value=[True])
        done = predict_folder(bundle, folder, tmp_path / f"{name}.parquet", labels="death")
        found.append(pl.read_parquet(done.path)["predicted_boolean_probability"][0])
    assert found[0] == found[1]


def test_the_window_of_the_contract_is_kept(folder: Path, tmp_path: Path) -> None:
    short = write_bundle(tmp_path / "short", window_days=4.0)
    write_labels(folder / "labels" / "death.parquet", [1, 2], boolean_value=[True, True])
    done = predict_folder(short, folder, tmp_path / "out.parquet", labels="death")
    kept = Record(
        CodeEvents(("B",), np.array([3], np.float32), np.full(1, np.nan, np.float32)),
        (Note("a cough", 3.0, "admission"),),
    )
    expected = load_bundle(short).predict_records([kept])
    found = pl.read_parquet(done.path)["predicted_boolean_probability"]
    np.testing.assert_allclose(found[0], expected[0, 0], rtol=1e-5)


def test_codes_the_model_does_not_know_are_told(bundle: Path, folder: Path, tmp_path: Path) -> None:
    done = predict_folder(bundle, folder, tmp_path / "out.parquet")
    assert done.code_coverage == 0.6  # A, B, A of A, B, A, Z, GENDER//F
    assert done.warnings == ()
    foreign = write_folder(tmp_path / "foreign", [event(1, 1, "X"), event(1, 2, "Y"), event(1, 2, "A")])
    done = predict_folder(bundle, foreign, tmp_path / "foreign.parquet")
    assert done.warnings == (
        "the model knows only 33% of the 3 coded events here;"
        " does this folder use the coding systems the model was trained on?",
    )


def test_codes_a_graph_knows_are_known(folder: Path, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model", architecture=Architecture({"graph": Spec("ancestors")}, Spec("early"), 8))
    done = predict_folder(model, folder, tmp_path / "out.parquet")
    assert done.code_coverage == 0.6
    assert done.nothing == 1  # the patient with a note alone


def test_classes(folder: Path, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model", Task("multiclass", ("home", "ward", "death")))
    write_labels(folder / "labels" / "where.parquet", [1, 2], categorical_value=["home", "death"])
    table = pl.read_parquet(predict_folder(model, folder, tmp_path / "out.parquet", labels="where").path)
    chances = table.select(f"predicted_probability_{name}" for name in ("home", "ward", "death")).to_numpy()
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-5)
    names = np.array(["home", "ward", "death"])[chances.argmax(1)].tolist()
    assert table["predicted_categorical_value"].to_list() == names
    assert table["categorical_value"].to_list() == ["home", "death"]


def test_numbered_classes(folder: Path, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model", Task("multiclass", ("0", "1", "2")))
    table = pl.read_parquet(predict_folder(model, folder, tmp_path / "out.parquet").path)
    assert table["predicted_integer_value"].dtype == pl.Int64
    assert set(table["predicted_integer_value"]) <= {0, 1, 2}


def test_several_labels(folder: Path, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model", Task("multilabel", ("shock", "sepsis")))
    for name in ("sepsis", "shock"):
        write_labels(folder / "labels" / "both" / f"{name}.parquet", [1, 2], boolean_value=[True, False])
    table = pl.read_parquet(predict_folder(model, folder, tmp_path / "out.parquet", labels="both").path)
    assert table["boolean_value_shock"].to_list() == [True, False]
    assert table["predicted_boolean_probability_sepsis"].is_between(0, 1).all()


def test_numbers(folder: Path, tmp_path: Path) -> None:
    model = write_bundle(tmp_path / "model", Task("regression", ("days",), center=100.0, scale=1.0))
    write_labels(folder / "labels" / "stay.parquet", [1], float_value=[3.5])
    table = pl.read_parquet(predict_folder(model, folder, tmp_path / "out.parquet", labels="stay").path)
    assert table["float_value"].to_list() == [3.5]
    assert table["predicted_float_value"].is_between(80, 120).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("deth", "unknown label 'deth'; did you mean 'death'?"),
        ("stay", r"stay\.parquet: the model is binary, but the labels are float_value"),
    ],
)
def test_wrong_labels_are_one_line_and_write_nothing(
    bundle: Path, folder: Path, tmp_path: Path, labels: str, message: str
) -> None:
    write_labels(folder / "labels" / "death.parquet", [1], boolean_value=[True])
    write_labels(folder / "labels" / "stay.parquet", [1], float_value=[1.0])
    with pytest.raises(UsageError, match=message):
        predict_folder(bundle, folder, tmp_path / "out.parquet", labels=labels)
    assert not (tmp_path / "out.parquet").exists()


def test_an_unreadable_image_is_an_error_or_missing_if_asked(folder: Path, tmp_path: Path) -> None:
    (folder / "metadata" / "dataset.json").write_text(
        json.dumps({"additional_value_modality_columns": ["image_path"]}), encoding="utf-8"
    )
    for shard in (folder / "data").iterdir():
        image = pl.when(pl.col("code") == "NOTE//progress").then(pl.lit("images/broken.png"))
        pl.read_parquet(shard).with_columns(image.alias("image_path")).write_parquet(shard)
    (folder / "images").mkdir()
    (folder / "images" / "broken.png").write_bytes(b"no image")
    architecture = Architecture({"images": Spec("timm", {"model": "resnet10t"})}, Spec("early"), 8)
    model = write_bundle(tmp_path / "model", architecture=architecture)
    with pytest.raises(UsageError, match=r"row \d+: image_path: unreadable image: of a kind that is not known$"):
        predict_folder(model, folder, tmp_path / "out.parquet")
    done = predict_folder(model, folder, tmp_path / "out.parquet", bad_images="missing")
    assert done.rows == 5
    assert "1 unreadable images were treated as missing" in done.warnings


def test_wrong_model_folder_and_target(bundle: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle folder 'nowhere'"):
        predict_folder("nowhere", folder, tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="unknown data folder 'dat'; did you mean 'data'"):
        predict_folder(bundle, folder.parent / "dat", tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="is a folder; name a parquet file"):
        predict_folder(bundle, folder, tmp_path)


def test_a_write_that_fails_leaves_the_old_file(
    bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out" / "out.parquet"
    predict_folder(bundle, folder, out)
    before = out.read_bytes()

    def full(self: pl.DataFrame, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        predict_folder(bundle, folder, out)
    assert [path.name for path in out.parent.iterdir()] == ["out.parquet"]
    assert out.read_bytes() == before
