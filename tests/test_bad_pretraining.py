"""Pre-training and scaling of what is bad or huge: one line, or what can be learned."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from toy_language import save_language
from toy_pretraining import config_of, copied, done, numbers, run, scaling_of  # noqa: F401

from encoders.codes.timeline import Timeline
from encoders.records import CodeEvents, Knowledge, Record
from experiments.cli import main
from experiments.config import Config
from experiments.feeding import preparations
from experiments.pretraining.run import Pretrained, architecture_of, pretrain
from experiments.workspace import open_store

TIMELINE: dict[str, Any] = {"encoders": {"codes": "timeline"}, "objectives": ["next_event"], "epochs": 1}
Seen = pytest.CaptureFixture[str]


def file_of(config: Config, place: Path, **more: Any) -> str:
    settings = {**config.model_dump(mode="json"), "tracking": {"enabled": False}, **more}
    place.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(place)


def refused(seen: Seen, *arguments: str) -> str:
    """Run a command that must end with code 2 and one line."""
    assert main(list(arguments)) == 2
    error = seen.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("ehrfusion: ")]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


# --- vocabularies and tokenizers ---


def test_a_vocabulary_that_does_not_match_ends_the_command(
    done: Pretrained, small_folder: Path, tmp_path: Path, capsys: Seen
) -> None:
    mine = copied(done.folder / "codes", tmp_path / "other")
    about = json.loads((mine / "encoder.json").read_text(encoding="utf-8"))
    data = about["preprocessor"]["data"]
    data["codes"] = [f"X{i}" for i in range(len(data["codes"]))]
    (mine / "encoder.json").write_text(json.dumps(about), encoding="utf-8")
    config = config_of(small_folder, tmp_path)
    model = {"encoders": {"codes": {"name": "artefact", "path": str(mine)}}, "dim": 8, "fusion": "early"}
    path = file_of(config, tmp_path / "t.yaml", model=model, pretrain=None)
    assert "lacks 100% of what the training patients have" in refused(capsys, "train", path)
    encoders = {"codes": {"name": "artefact", "path": str(mine)}}
    path = file_of(config, tmp_path / "p.yaml", pretrain={"encoders": encoders})
    assert "an artefact is pre-trained already" in refused(capsys, "pretrain", path)
    sizes = [{"dim": each, "path": str(mine)} for each in (4, 8, 12)]
    settings = scaling_of(small_folder, tmp_path, sizes=sizes, encoder="artefact", objective="task")
    path = file_of(config, tmp_path / "s.yaml", **settings)
    assert "an artefact has the size it was pre-trained with" in refused(capsys, "scaling", path)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("verb", ["pretrain", "scaling"])
@pytest.mark.parametrize("there", [False, True])
def test_a_missing_tokenizer_ends_the_command(
    verb: str, there: bool, small_folder: Path, tmp_path: Path, capsys: Seen
) -> None:
    model = tmp_path / "language"
    if there:
        save_language(model, "no fever", positions=16)
        for each in model.glob("tokenizer*"):
            each.unlink()
    config = config_of(small_folder, tmp_path)
    notes = {"name": "pretrained", "model": str(model)}
    sizes = [{"dim": each, "model": str(model)} for each in (4, 8, 12)]
    more = scaling_of(small_folder, tmp_path, sizes=sizes, modality="notes", encoder="pretrained", objective="task")
    if verb == "pretrain":
        more = {"pretrain": {"encoders": {"codes": "transformer", "notes": notes}, "objectives": ["umm_plm"], "dim": 8}}
    said = refused(capsys, verb, file_of(config, tmp_path / "t.yaml", **more))
    assert f"cannot load '{model}'" in said
    assert not there or "it has no tokenizer" in said
    assert not (tmp_path / "t" / "pretrained").exists()


def test_sizes_that_read_other_tokens_are_refused(small_folder: Path, tmp_path: Path, capsys: Seen) -> None:
    models = [save_language(tmp_path / str(each), "no fever", positions=16) for each in range(2)]
    sizes = [{"dim": 4, "model": models[0]}, {"dim": 8, "model": models[1]}, {"dim": 12, "model": models[0]}]
    more = scaling_of(small_folder, tmp_path, sizes=sizes, modality="notes", encoder="pretrained", objective="task")
    path = file_of(config_of(small_folder, tmp_path), tmp_path / "t.yaml", **more)
    assert "reads records that are prepared otherwise" in refused(capsys, "scaling", path)


# --- empty timelines and giants ---


def with_codes(small_folder: Path, place: Path, keep: pl.Expr, more: pl.DataFrame | None = None) -> Path:
    folder = copied(small_folder, place)
    shard = folder / "data" / "00000.parquet"
    events = pl.read_parquet(shard)
    note = pl.col("code").str.starts_with("NOTE//") | pl.col("image_path").is_not_null()
    parts = [events.filter(note | keep), *([more] if more is not None else [])]
    pl.concat(parts).sort("subject_id", "time", maintain_order=True).write_parquet(shard)
    return folder


def test_empty_timelines_are_one_line_or_learn_from_who_has_one(
    small_folder: Path, tmp_path: Path, capsys: Seen
) -> None:
    nobody = with_codes(small_folder, tmp_path / "nobody", pl.lit(value=False))
    config = config_of(nobody, tmp_path / "runs", **TIMELINE)
    path = file_of(config, tmp_path / "t.yaml")
    said = refused(capsys, "pretrain", path)
    assert "empty timelines: none of" in said
    assert "training patients has a codes token" in said
    assert not (tmp_path / "runs" / "t").exists()
    some = with_codes(small_folder, tmp_path / "some", pl.col("subject_id") % 5 == 0)
    assert np.isfinite(run(some, tmp_path / "runs-some", **TIMELINE).loss)


def giant(small_folder: Path, place: Path, count: int) -> Path:
    """Copy the folder, with so many laboratory values of one training patient before the prediction."""
    split = pl.read_parquet(small_folder / "metadata" / "subject_splits.parquet")
    labels = pl.read_parquet(small_folder / "labels" / "outcome.parquet")
    subject = split.filter(pl.col("split") == "train")["subject_id"][0]
    now = labels.filter(pl.col("subject_id") == subject)["prediction_time"][0]
    events = pl.read_parquet(small_folder / "data" / "00000.parquet")
    one = events.filter(pl.col("code") == "LAB//creatinine").head(1)
    number = pl.arange(0, count, eager=True)
    many = pl.concat([one] * 1).select(pl.all().repeat_by(count).explode()).with_columns(
        subject_id=pl.lit(subject, pl.Int64), time=pl.lit(now) - pl.duration(minutes=number)
    )  # fmt: skip
    return with_codes(small_folder, place, pl.lit(value=True), many.select(events.columns))


def test_one_patient_with_a_million_events_is_as_long_as_others(small_folder: Path, tmp_path: Path) -> None:
    folder = giant(small_folder, tmp_path / "data", 1_000_000)
    config = config_of(folder, tmp_path / "runs", **TIMELINE)
    data = config.data.model_copy(update={"preprocess": {"codes": {"max_tokens": 32}}})
    config = config.model_copy(update={"data": data})
    store = open_store(config)
    assert np.isfinite(pretrain(config, store).loss)
    assert config.pretrain is not None
    (plan,) = preparations(architecture_of(config.pretrain), data.preprocess).values()
    lengths = store.source(plan).lengths(torch.arange(len(store.cohort.targets)))
    assert lengths.max() <= 32, "a giant takes no more memory than others once it is prepared"


def test_of_a_giant_only_the_latest_events_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 5_000
    codes = ["SEX//F", *(f"LAB//{i % 7}" for i in range(count))]
    days = np.concatenate([[0.0], np.linspace(900, 0.0, count)]).astype(np.float32)
    events = CodeEvents(codes, days, np.full(count + 1, np.nan, np.float32))
    timeline = Timeline.fit([Record(events)] * 2, Knowledge(), max_tokens=40)
    fewer = timeline.encode(Record(events))
    looked = []
    original = Timeline.events
    monkeypatch.setattr(Timeline, "events", lambda self, each: looked.append(len(each.codes)) or original(self, each))
    timeline.encode(Record(events))
    assert looked == [1 + 40 + 1]
    monkeypatch.setattr(Timeline, "_needed", lambda _self, each: each)
    whole_record = timeline.encode(Record(events))
    assert fewer is not None
    assert whole_record is not None
    np.testing.assert_array_equal(fewer["ids"], whole_record["ids"])


# --- the process's own dice ---


def test_what_is_learned_hangs_on_the_seed_and_not_on_dice_thrown_before(
    small_folder: Path, tmp_path: Path, done: Pretrained
) -> None:
    torch.manual_seed(77)
    np.random.seed(77)
    random.seed(77)
    found = run(small_folder, tmp_path)
    assert numbers(found.history) == numbers(done.history)
    other = pretrain(config_of(small_folder, tmp_path / "other").model_copy(update={"seed": 5}),
                     open_store(config_of(small_folder, tmp_path / "other")))  # fmt: skip
    assert numbers(other.history) != numbers(done.history)
