"""Configurations and commands of pre-training, what refuses to be done, and models that are made from artefacts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_contract import language  # noqa: F401 - a fixture
from toy_pretraining import SETTINGS, config_of, copied, done, run  # noqa: F401

from encoders.artefact import fingerprint
from encoders.records import CodeEvents, Record
from experiments.audit.run import used
from experiments.bundle import load_bundle, save_bundle
from experiments.cli import main
from experiments.comparing import _with_folds
from experiments.config import TrainingConfig, parse_config
from experiments.kept import result_path
from experiments.pretraining.command import run_pretraining
from experiments.pretraining.run import Pretrained, check_pretrain, first_rows, pretrain
from experiments.pretraining.use import artefacts
from experiments.studies import preparations_of, study_attributes, study_space
from experiments.train import train
from experiments.workspace import open_store
from fusion import Architecture, Spec, UsageError


def said(pretraining: dict[str, Any], **more: Any) -> str:
    data = {"name": "t", "data": {"folder": "nowhere"}, "model": {"encoders": {"codes": "bag"}}, **more}
    with pytest.raises(UsageError) as error:
        check_pretrain(parse_config({**data, "pretrain": {**SETTINGS, **pretraining}}))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_is_one_line() -> None:
    codes = {"codes": "transformer"}
    assert "did you mean 'pretrain.epochs'" in said({"epoch": 3})
    assert "'contrastive' needs two modalities" in said({"encoders": codes, "objectives": ["contrastive"]})
    both = {"codes": "transformer", "graph": "gbert"}
    assert "'contrastive' needs two modalities" in said({"encoders": both, "objectives": ["contrastive"]})
    assert "'umm_plm' needs notes and one of codes and graph" in said({"encoders": codes, "objectives": ["umm_plm"]})
    assert "hides codes and words; encoders has only images" in said({"encoders": {"images": "conv"}})
    assert "pairs are two of the encoders, as codes-notes; got 'codes-images'" in said({"pairs": ["codes-images"]})
    assert "objectives lists one twice" in said({"objectives": ["masked", "masked"]})
    assert "frozen_layers names 'images'" in said({"frozen_layers": {"images": 2}})
    assert "did you mean 'transformer'" in said({"encoders": {"codes": "transformr"}})
    assert "an artefact is pre-trained already" in said({"encoders": {"codes": {"name": "artefact", "path": "x"}}})
    assert "every patient is held out once" in said({}, compare={"folds": 5})
    with pytest.raises(UsageError, match="has no section 'pretrain'"):
        check_pretrain(parse_config({"name": "t", "data": {"folder": "x"}, "model": {"encoders": codes}}))


def test_an_encoder_that_cannot_be_asked_is_one_line_and_leaves_nothing(small_folder: Path, tmp_path: Path) -> None:
    for codes, words in {"bag": "token an event, and CodeBag", "digits": "cannot hide what DigitTransformer"}.items():
        with pytest.raises(UsageError, match=words):
            run(small_folder, tmp_path, encoders={"codes": codes})
    assert not (tmp_path / "t" / "pretrained").exists()


def test_the_command(small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = config_of(small_folder, tmp_path, objectives=["masked", "contrastive"], epochs=1)
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
    assert main(["pretrain", str(path)]) == 0
    said = capsys.readouterr().out
    assert "t: masked + contrastive on " in said
    assert "codes-notes: the nearest of " in said
    assert f"name: artefact, path: {tmp_path}/t/pretrained/codes" in said
    assert main(["pretrain", str(path)]) == 0
    assert "pre-trained so before; --fresh does it again" in capsys.readouterr().out
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (logged,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert logged.data.tags["ehrfusion.kind"] == "pretraining"
    assert len(logged.data.tags["artefact.codes"]) == 64
    assert logged.data.params["objectives"]
    assert "epoch/validation_contrastive" in logged.data.metrics
    downloaded = client.download_artifacts(logged.info.run_id, "", str(tmp_path / "downloaded"))
    kept = sorted(each.relative_to(downloaded).as_posix() for each in Path(downloaded).rglob("*.*"))
    assert kept == [f"{each}/{file}" for each in ("codes", "notes") for file in ("encoder.json", "weights.safetensors")]
    assert fingerprint(f"{downloaded}/codes") == logged.data.tags["artefact.codes"]
    assert main(["pretrain", str(path), "pretrain.objective=x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_loss_that_is_not_finite_is_one_line_and_leaves_nothing(small_folder: Path, tmp_path: Path) -> None:
    config = config_of(small_folder, tmp_path, lr=1e30, clip=1e9)
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"enabled": False})})
    with pytest.raises(UsageError, match=r"pre-training 't': the loss .*; try a smaller pretrain\.lr"):
        list(run_pretraining(config))
    assert not (tmp_path / "t" / "pretrained").exists()


@pytest.mark.parametrize("codes", ["codes", "graph"])
def test_umm_plm_learns_from_codes_and_from_the_graph(small_folder: Path, tmp_path: Path, codes: str) -> None:
    encoder = "transformer" if codes == "codes" else {"name": "gbert", "layers": 1}
    encoders = {codes: encoder, "notes": "transformer"}
    found = run(small_folder, tmp_path, encoders=encoders, objectives=["umm_plm"], epochs=4, lr=1e-2)
    terms = [name for name in found.history[0] if name.startswith("validation_umm_")]
    assert len(terms) == 6
    assert all(found.history[-1][name] < found.history[0][name] for name in terms), "each of the six falls"


def test_partly_frozen_layers_stay_where_they_were(small_folder: Path, tmp_path: Path) -> None:
    encoders = {"codes": {"name": "transformer", "layers": 2}}
    weights = [
        load_file(run(small_folder, tmp_path / str(epochs), encoders=encoders, frozen_layers={"codes": 1},
                      epochs=epochs, patience=9).folder / "codes" / "weights.safetensors")
        for epochs in (1, 3)
    ]  # fmt: skip
    moved = {name for name in weights[0] if not weights[0][name].equal(weights[1][name])}
    assert moved
    assert not [name for name in moved if name.startswith(("blocks.0", "embed"))]
    assert [name for name in moved if name.startswith("blocks.1")]


def test_a_language_model_is_pre_trained_partly_frozen(small_folder: Path, tmp_path: Path, language: str) -> None:
    notes = {"name": "pretrained", "model": language, "frozen": False, "stride": 4}
    encoders = {"codes": "transformer", "notes": notes}
    found = run(small_folder, tmp_path, encoders=encoders, objectives=["umm_plm"], frozen_layers={"notes": 1}, epochs=1)
    before = load_file(Path(language) / "model.safetensors")
    after = load_file(found.folder / "notes" / "weights.safetensors")
    same = {name: after[f"language.{name}"].equal(each) for name, each in before.items() if f"language.{name}" in after}
    assert all(equal for name, equal in same.items() if "embeddings" in name or "layer.0." in name)
    assert not all(equal for name, equal in same.items() if "layer.1." in name)


def test_a_missing_tokenizer_is_one_line(small_folder: Path, tmp_path: Path) -> None:
    notes = {"name": "pretrained", "model": str(tmp_path / "nowhere")}
    with pytest.raises(UsageError) as error:
        run(small_folder, tmp_path, encoders={"codes": "transformer", "notes": notes}, objectives=["umm_plm"])
    assert "nowhere" in str(error.value)
    assert "\n" not in str(error.value)


def changed(small_folder: Path, place: Path, keep: pl.Expr) -> Path:
    """Copy the folder with some events left out."""
    folder = copied(small_folder, place)
    shard = folder / "data" / "00000.parquet"
    pl.read_parquet(shard).filter(keep).write_parquet(shard)
    return folder


def test_patients_without_anything_and_cohorts_without_a_modality(small_folder: Path, tmp_path: Path) -> None:
    folder = changed(small_folder, tmp_path / "data", ~pl.col("code").str.starts_with("NOTE//"))
    found = run(folder, tmp_path / "runs", objectives=["masked", "contrastive"], epochs=1)
    assert np.isfinite(found.loss)
    assert found.history[0]["validation_contrastive"] == 0.0
    assert found.recalls["codes-notes"].patients == 0


def test_one_giant_patient_does_not_stop_it(small_folder: Path, tmp_path: Path) -> None:
    folder = copied(small_folder, tmp_path / "data")
    shard = folder / "data" / "00000.parquet"
    events = pl.read_parquet(shard)
    one = events.filter(pl.col("code").str.starts_with("LAB//")).head(1)
    pl.concat([events, *[one] * 20_000]).sort("subject_id", "time").write_parquet(shard)
    assert np.isfinite(run(folder, tmp_path / "runs", encoders={"codes": "transformer"}, epochs=1).loss)


def test_a_single_training_patient(small_folder: Path, tmp_path: Path) -> None:
    folder = copied(small_folder, tmp_path / "data")
    labels, split = folder / "labels" / "outcome.parquet", folder / "metadata" / "subject_splits.parquet"
    train = pl.read_parquet(split).filter(pl.col("split") == "train")["subject_id"].to_list()
    table = pl.read_parquet(labels)
    truth = dict(table.select("subject_id", "boolean_value").iter_rows())
    two = [next(each for each in train if truth[each] == value) for value in (True, False)]
    table.filter(~pl.col("subject_id").is_in(set(train) - set(two))).write_parquet(labels)
    config = config_of(folder, tmp_path / "runs", objectives=["masked", "contrastive"], epochs=1, batch_size=1)
    found = pretrain(config, open_store(config))
    assert found.patients == 2
    assert np.isfinite(found.loss)


def study(small_folder: Path, runs: Path, path: str, **space: Any) -> Any:
    encoders = {"codes": {"transformer": {}, "artefact": {"path": path, "use": ["fine_tune", "frozen"]}, **space}}
    data = {"folder": small_folder, "preprocess": {"codes": {"max_events": 16}}}
    settings = {"name": "s", "runs": runs, "data": data, "space": {"encoders": encoders, "dim": 8}}
    return parse_config({**settings, "search": {"trials": 2}})


def test_a_search_chooses_among_artefacts_and_from_scratch(
    done: Pretrained, small_folder: Path, tmp_path: Path
) -> None:
    config = study(small_folder, tmp_path, str(done.folder / "codes"))
    assert {each.preprocessor.__name__ for each in preparations_of(study_space(config), config)} == {
        "CodeVocabulary", "ArtefactInputs",
    }  # fmt: skip
    assert {"transformer", "artefact"} == {spec.name for _, spec in used(config)[1]}
    missing = study(small_folder, tmp_path, "nowhere")
    with pytest.raises(UsageError, match="nowhere: not a pre-trained encoder"):
        preparations_of(study_space(missing), missing)


def test_another_artefact_at_the_same_path_is_not_taken_for_the_first(
    done: Pretrained, small_folder: Path, tmp_path: Path
) -> None:
    place = copied(done.folder / "codes", tmp_path / "codes")
    config = study(small_folder, tmp_path, str(place))
    store = open_store(config)
    architecture = Architecture({"codes": Spec("artefact", {"path": str(place)})}, Spec("early"), 8).to_dict()

    def looks() -> tuple[Any, ...]:
        settings = study_attributes(config, study_space(config), store, "auroc")["settings"]
        plan = next(each for each in preparations_of(study_space(config), config) if each.content)
        kept = result_path(tmp_path, {"architecture": architecture}, 0, config, store)
        return settings, kept, store.fingerprint(plan)

    before = looks()
    assert looks() == before
    about = json.loads((place / "encoder.json").read_text(encoding="utf-8"))
    (place / "encoder.json").write_text(json.dumps({**about, "seed": 9}), encoding="utf-8")
    assert not [old for old, new in zip(before, looks(), strict=True) if old == new]


def test_a_comparison_holds_nobody_out_whom_an_encoder_knows(
    done: Pretrained, small_folder: Path, tmp_path: Path
) -> None:
    config = config_of(small_folder, tmp_path)
    encoders = {"codes": {"name": "artefact", "path": str(done.folder / "codes")}}
    for model, folds in ((config.model, 5), (config.model.model_copy(update={"encoders": encoders}), 1)):
        plain = {**config.model_dump(mode="json"), "compare": {}, "model": model.model_dump()}
        found, remarks = _with_folds(parse_config(plain), open_store(config))
        assert found.compare.folds == folds
    assert remarks == ["1 fold in place of 5: encoders were pre-trained on patients whom other folds would hold out"]


def test_a_model_carries_the_fingerprint_and_needs_no_artefact(
    done: Pretrained, small_folder: Path, tmp_path: Path
) -> None:
    kept = copied(done.folder / "codes", tmp_path / "codes")
    config = config_of(small_folder, tmp_path)
    store = open_store(config)
    architecture = Architecture({"codes": Spec("artefact", {"path": str(kept), "use": "frozen"})}, Spec("early"), 8)
    fit = train(architecture, store, TrainingConfig(epochs=1), 0, preprocess=config.data.preprocess)
    fitted = {name: store.preprocessor(plan) for name, plan in fit.preparations.items()}
    contract = {"pretrained": artefacts(fitted)}
    bundle = save_bundle(
        tmp_path / "bundle", fit.model, architecture, store.task, fitted, fit.preparations, contract, {}
    )
    shutil.rmtree(kept)
    predictor = load_bundle(bundle)
    assert predictor.preprocessors["codes"].fingerprint == done.fingerprints["codes"]
    card = (bundle / "card.md").read_text(encoding="utf-8")
    assert f"| Pre-trained codes | masked on {done.patients} patients, artefact {done.fingerprints['codes']} |" in card
    events = CodeEvents(("GENDER//F",), np.zeros(1, np.float32), np.full(1, np.nan, np.float32))
    before = fit.model.eval()
    with torch.no_grad():
        assert torch.isfinite(before.head.weight).all()
    assert np.isfinite(predictor.predict_records([Record(events), Record()])).all()
    about = json.loads((bundle / "model.json").read_text(encoding="utf-8"))
    assert about["preprocessors"]["codes"]["fingerprint"] == done.fingerprints["codes"]
    assert not set(about["contract"]["pretrained"]) - {"codes"}


def test_who_judges_alignment_is_there_once(small_folder: Path, tmp_path: Path) -> None:
    store = open_store(config_of(small_folder, tmp_path))
    rows = np.concatenate([store.cohort.rows("train")] * 2)
    once = first_rows(store, rows)
    assert sorted(store.cohort.subject_ids[once]) == sorted(set(store.cohort.subject_ids[rows]))
