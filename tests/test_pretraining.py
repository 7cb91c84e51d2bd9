"""Pre-training runs: who is learned from, resuming, what an artefact holds, and who notices what is wrong with one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from toy_pretraining import PREPROCESS, SETTINGS, config_of, copied, done, numbers, rows_of, run  # noqa: F401

from encoders.artefact import fingerprint
from experiments.audit.evidence import Evidence
from experiments.audit.fitting import pretrained_elsewhere
from experiments.audit.pretraining import pretraining_file, read_pretraining
from experiments.checkpoint import read_checkpoint
from experiments.config import TrainingConfig
from experiments.data.splits import split_fingerprint
from experiments.feeding import preparations
from experiments.loop import Stopped
from experiments.pretraining.run import Pretrained, deal, pretrain
from experiments.train import Fit, train
from experiments.workspace import open_store
from fusion import Architecture, Spec, UsageError

OTHER_ORDER = {"encoders": {"notes": "transformer", "codes": "transformer"}}


def weights(found: Pretrained) -> dict[str, torch.Tensor]:
    parts = {each: load_file(found.folder / each / "weights.safetensors") for each in ("codes", "notes")}
    return {f"{each}.{name}": tensor for each, tensors in parts.items() for name, tensor in tensors.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def fine_tune(done: Pretrained, folder: Path, runs: Path, use: str = "fine_tune", dim: int = 8, **more: Any) -> Fit:
    config = config_of(folder, runs)
    spec = Spec("artefact", {"path": str(done.folder / "codes"), "use": use, **more})
    architecture = Architecture({"codes": spec, "notes": Spec("bag")}, Spec("early"), dim)
    training = TrainingConfig(epochs=2, batch_size=32, warmup_steps=2)
    return train(architecture, open_store(config), training, 1, preprocess=config.data.preprocess)


def test_training_patients_learn_and_nobody_else_does(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    config = config_of(small_folder, tmp_path)
    train_patients, others = rows_of("train", config), [rows_of(each, config) for each in ("tuning", "held_out")]
    known = read_pretraining(pretraining_file(done.folder / "codes"))
    assert done.patients == len(train_patients)
    assert known.among(train_patients).tolist() == train_patients.tolist()
    assert all(not len(known.among(each)) for each in others)
    about = json.loads((done.folder / "notes" / "encoder.json").read_text(encoding="utf-8"))
    everybody = np.full(len(train_patients), "train")
    wanted = {"count": len(train_patients), "fingerprint": split_fingerprint(train_patients, everybody)}
    assert about["patients"] == wanted
    learned, judging = deal(open_store(config), 0.1, 0)
    assert not set(learned) & set(judging)
    assert len(judging) == round(0.1 * len(train_patients))


def test_what_lies_beyond_the_train_split_changes_nothing(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    folder = copied(small_folder, tmp_path / "data")
    split = pl.read_parquet(folder / "metadata" / "subject_splits.parquet")
    others = split.filter(pl.col("split") != "train")["subject_id"].to_list()
    shard = folder / "data" / "00000.parquet"
    events = pl.read_parquet(shard)
    changed = pl.when(pl.col("subject_id").is_in(others)).then(pl.col("numeric_value") * 7).otherwise("numeric_value")
    events.with_columns(changed.cast(pl.Float32).alias("numeric_value")).write_parquet(shard)
    labels = pl.read_parquet(folder / "labels" / "outcome.parquet")
    labels.with_columns(~pl.col("boolean_value")).write_parquet(folder / "labels" / "outcome.parquet")
    assert same(weights(run(folder, tmp_path / "runs")), weights(done)), "labels or other splits took part"


def test_resumed_is_uninterrupted(small_folder: Path, tmp_path: Path, done: Pretrained) -> None:
    config, steps = config_of(small_folder, tmp_path), []

    def stop() -> bool:
        steps.append(1)
        return len(steps) > 6  # in the second epoch

    store = open_store(config)
    with pytest.raises(Stopped):
        pretrain(config, store, should_stop=stop)
    (left,) = (tmp_path / "t" / "pretraining").glob("*.safetensors")
    checkpoint = read_checkpoint(left)
    assert checkpoint is not None
    assert checkpoint.state["run"]["epoch"] == 1
    assert not (tmp_path / "t" / "pretrained").exists(), "half an artefact was left"
    seen: list[int] = []
    found = pretrain(config, store, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [1, 2]
    assert numbers(found.history) == numbers(done.history)
    assert same(weights(found), weights(done))
    assert not left.exists()


def test_epochs_are_judged_by_the_same_hidden_things(small_folder: Path, tmp_path: Path) -> None:
    first, second = run(small_folder, tmp_path, encoders={"codes": "transformer"}, lr=1e-12).history
    assert first["validation_masked_code"] == pytest.approx(second["validation_masked_code"], rel=1e-5)


def test_an_artefact_is_private_and_says_what_it_is(done: Pretrained) -> None:
    for path in (done.folder, *done.folder.rglob("*")):
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path
    about = json.loads((done.folder / "codes" / "encoder.json").read_text(encoding="utf-8"))
    assert (about["modality"], about["encoder"], about["dim"]) == ("codes", {"name": "transformer"}, 8)
    assert about["objectives"] == ["masked"]
    assert {"seed", "versions", "data_fingerprint", "split_fingerprint", "git_commit", "sha256"} <= set(about)
    assert done.fingerprints["codes"] == fingerprint(str(done.folder / "codes"))


@pytest.mark.parametrize("use", ["fine_tune", "frozen", "probe"])
@pytest.mark.parametrize("dim", [8, 12])
def test_a_model_starts_from_it(done: Pretrained, small_folder: Path, tmp_path: Path, use: str, dim: int) -> None:
    fit = fine_tune(done, small_folder, tmp_path, use, dim)
    mine = dict(fit.model.encoders["codes"].inner.state_dict())
    stored = load_file(done.folder / "codes" / "weights.safetensors")
    assert same(mine, stored) == (use != "fine_tune"), "frozen weights moved, or trained ones did not"
    cached = list((tmp_path / "cache").glob("features-*"))
    assert bool(cached) == (use != "fine_tune")


def test_fine_tuning_starts_at_the_weights_and_is_the_encoder_itself(
    done: Pretrained, small_folder: Path, tmp_path: Path
) -> None:
    config = config_of(small_folder, tmp_path)
    spec = Spec("artefact", {"path": str(done.folder / "codes")})
    plan = preparations(Architecture({"codes": spec}, Spec("early"), 8), config.data.preprocess)["codes"]
    preprocessor = open_store(config).preprocessor(plan)
    from encoders import ENCODERS
    from fusion.component import build

    encoder = build(ENCODERS["codes"], spec, preprocessor, 8)
    assert same(encoder.inner.state_dict(), load_file(done.folder / "codes" / "weights.safetensors"))
    assert len(encoder.adapt) == 0
    assert preprocessor.codes == preprocessor.inner.codes


def refused(small_folder: Path, runs: Path, spec: dict[str, Any], modality: str = "codes", **preprocess: Any) -> str:
    config = config_of(small_folder, runs)
    architecture = Architecture({modality: Spec.parse({"name": "artefact", **spec})}, Spec("early"), 8)
    options = {modality: preprocess or PREPROCESS[modality]}
    with pytest.raises(UsageError) as error:
        train(architecture, open_store(config), TrainingConfig(epochs=1), 1, preprocess=options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_wrong_artefacts_are_one_line(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    codes = str(done.folder / "codes")
    assert "needs a path" in refused(small_folder, tmp_path, {})
    assert "not a pre-trained encoder (it has no encoder.json)" in refused(small_folder, tmp_path, {"path": "nowhere"})
    assert f"encoders.notes: {codes} is a pre-trained encoder of codes" in refused(
        small_folder, tmp_path, {"path": codes}, "notes"
    )
    found = refused(small_folder, tmp_path, {"path": codes}, max_events=99)
    assert f"preprocess.codes.max_events is 99, and {codes} was pre-trained with 16" in found
    assert "did you mean 'frozen'" in refused(small_folder, tmp_path, {"path": codes, "use": "frosen"})


def test_damaged_artefacts_are_one_line(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    for damage, words in {
        "flip": "differs from what encoder.json says",
        "cut": "not readable",
        "none": "not readable (FileNotFoundError)",
    }.items():
        mine = copied(done.folder / "codes", tmp_path / damage)
        file = mine / "weights.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.unlink()
        if damage != "none":
            file.write_bytes(content if damage == "flip" else content[:50])
        assert words in refused(small_folder, tmp_path / f"runs-{damage}", {"path": str(mine)})
    text = copied(done.folder / "codes", tmp_path / "text")
    (text / "encoder.json").write_text("{", encoding="utf-8")
    assert "not readable as a pre-trained encoder" in refused(small_folder, tmp_path, {"path": str(text)})


def test_a_vocabulary_that_does_not_match_is_one_line(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    mine = copied(done.folder / "codes", tmp_path / "other")
    about = json.loads((mine / "encoder.json").read_text(encoding="utf-8"))
    data = about["preprocessor"]["data"]
    data["codes"] = [f"X{i}" for i in range(len(data["codes"]))]
    (mine / "encoder.json").write_text(json.dumps(about), encoding="utf-8")
    found = refused(small_folder, tmp_path, {"path": str(mine)})
    assert "encoders.codes: the vocabulary of" in found
    assert "lacks 100% of what the training patients have" in found


def audited(done: Pretrained, folder: Path, runs: Path) -> Any:
    config = config_of(folder, runs)
    uses = [Spec("artefact", {"path": str(done.folder / "codes"), "use": use}) for use in ("frozen", "probe")]
    return pretrained_elsewhere(Evidence(open_store(config), [], [("codes", spec) for spec in uses], 0))


def test_the_audit_refuses_one_that_knows_tested_patients(done: Pretrained, small_folder: Path, tmp_path: Path) -> None:
    passed = audited(done, small_folder, tmp_path / "a")
    assert not passed.findings
    assert passed.measured == "1 pre-trained encoders", "one in two uses is one"
    folder = copied(small_folder, tmp_path / "data")
    path = folder / "metadata" / "subject_splits.parquet"
    split = pl.read_parquet(path)
    turned = {"train": "held_out", "held_out": "train", "tuning": "tuning"}
    split.with_columns(pl.col("split").replace_strict(turned)).write_parquet(path)
    (finding,) = audited(done, folder, tmp_path / "b").findings
    assert finding.severity == "error"
    assert "codes was pre-trained on" in finding.what
