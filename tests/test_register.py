"""Registering: fresh seeds, a choice on the tuning split, one look at the held-out patients, nothing private kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from experiments import register as register_module
from experiments import retraining
from experiments.bundle import CARD, load_bundle
from experiments.config import StudyConfig, parse_config
from experiments.contenders import chosen
from experiments.data.folder import open_dataset
from experiments.jobs import JobFailure
from experiments.predict import predict_folder
from experiments.reading import leaderboard, progress_picture
from experiments.register import Registration, register_study
from experiments.retraining import Finalists, best_finalist, retrain_job
from experiments.searching import connected, run_search
from experiments.studies import finalists, load_study
from experiments.tracking.registry import resolve, versions
from experiments.tracking.runs import connect
from experiments.workspace import open_store
from fusion import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture(scope="module")
def config(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study of codes and notes with three finished trials."""
    data = {
        "name": "small",
        "seed": 4,
        "runs": tmp_path_factory.mktemp("register") / "runs",
        "data": {"folder": small_folder, "preprocess": {"codes": {"max_events": 32}, "notes": {"max_tokens": 32}}},
        "training": {"epochs": 2, "batch_size": 32},
        "space": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": ["late", "early"], "dim": [8, 16]},
        "search": {"trials": 3, "workers": 1, "pruner": "none"},
    }
    found = parse_config(data)
    assert isinstance(found, StudyConfig)
    run_search(found, live=False)
    return found


@pytest.fixture(scope="module")
def looks() -> list[tuple[str, int]]:
    """Which rows were predicted while registering: the split and how many."""
    return []


@pytest.fixture(scope="module")
def registration(config: StudyConfig, looks: list[tuple[str, int]]) -> Registration:
    """Two architectures retrained twice each, in this process so that looks can be counted."""
    real = register_module.predict_rows

    def noted(model: Any, plans: Any, store: Any, rows: Any) -> Any:
        looks.append((str(np.unique(store.cohort.split[rows])[0]), len(rows)))
        return real(model, plans, store, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register_module, "predict_rows", noted)
        patch.setattr(retraining, "run_jobs", lambda work, jobs, *_: [work(job) for job in jobs])
        return register_study(config, "outcome", top=2, seeds=2, promote=True, progress=False)


def test_held_out_patients_are_looked_at_once(
    config: StudyConfig, registration: Registration, looks: list[tuple[str, int]]
) -> None:
    rows = open_store(config).cohort.rows("held_out")
    assert looks == [("held_out", len(rows))]
    (line,) = (config.folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    look = json.loads(line)
    assert (look["model"], look["candidate"]) == ("outcome", registration.winner.candidate.key)
    assert look["metrics"]["auroc"] == registration.held_out["auroc"].value


def test_the_best_trials_are_trained_anew_with_seeds_no_trial_had(
    config: StudyConfig, registration: Registration
) -> None:
    study = load_study(config)
    assert [each.trial for each in registration.candidates] == [trial.number for trial, _ in finalists(study, 2)]
    used = {trial.user_attrs["seed"] for trial in study.trials}
    fresh = [load_bundle(bundle).contract["seed"] for each in registration.candidates for bundle in each.bundles]
    assert len(set(fresh)) == 2
    assert not (used | set(range(100))) & set(fresh), "trials and comparisons have seen these seeds"
    assert all(len(set(each.scores)) == 2 for each in registration.candidates)


def test_the_best_mean_wins_with_its_best_seed(registration: Registration) -> None:
    assert registration.winner.mean == max(each.mean for each in registration.candidates)
    best = registration.winner.bundles[int(np.argmax(registration.winner.scores))]
    chosen, kept = load_bundle(best), load_bundle(registration.bundle)
    assert kept.contract["seed"] == chosen.contract["seed"]
    for name, weight in chosen.model.state_dict().items():
        assert weight.equal(kept.model.state_dict()[name])


def test_the_bundle_says_what_it_is_for(config: StudyConfig, registration: Registration) -> None:
    store, found = open_store(config), load_bundle(registration.bundle)
    assert found.contract["name"] == "outcome"
    assert found.contract["data_fingerprint"] == store.data_fingerprint
    assert found.contract["split_fingerprint"] == store.cohort.split_fingerprint
    assert found.contract["cohort"] == {each: len(store.cohort.rows(each)) for each in ("train", "tuning", "held_out")}
    codes = found.preprocessors["codes"].codes
    assert found.contract["code_vocabulary"] == len(codes)
    card = (registration.bundle / CARD).read_text(encoding="utf-8")
    assert f"{registration.held_out['auroc'].value:.4f}" in card
    assert found.contract["audit"].startswith("passed: ")
    assert "| Leakage audit | passed: " in card


def test_no_text_and_no_patient_is_kept(config: StudyConfig, registration: Registration) -> None:
    """Neither a note nor a patient's number or times are in anything that a study leaves but its prepared tensors."""
    events = pl.concat([pl.read_parquet(path) for path in open_dataset(config.data.folder).shards])
    texts = [text.encode() for text in events["text_value"].drop_nulls().unique().to_list()]
    times = [str(time).encode() for time in events["time"].drop_nulls().unique().to_list()]
    kept = [path for path in config.runs.rglob("*") if path.is_file() and config.runs / "cache" not in path.parents]
    assert len(kept) > 10
    for path in kept:
        content = path.read_bytes()
        for secret in (*texts, *times, b'subject_id": '):
            assert secret not in content, f"{path.name} holds something private"


def test_the_registered_model_predicts(config: StudyConfig, registration: Registration, tmp_path: Path) -> None:
    connection = connect(config.tracking.uri, config.runs, "ehrfusion")
    assert registration.aliases == ("candidate", "champion")
    bundle = resolve("models:/outcome@champion", connection, tmp_path / "download")
    predict_folder(bundle, config.data.folder, tmp_path / "out.parquet", labels="outcome")
    table = pl.read_parquet(tmp_path / "out.parquet")
    store = open_store(config)
    assert table["subject_id"].to_list() == store.cohort.subject_ids.tolist()
    rows = store.cohort.rows("held_out")
    scores = table["predicted_boolean_probability"].to_numpy()[rows]
    found = roc_auc_score(store.cohort.targets[rows], scores)
    assert found == pytest.approx(registration.held_out["auroc"].value, abs=1e-6)


def test_a_retraining_that_fails_is_left_out(config: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_fails(work: Any, jobs: Any, *_: Any) -> list[Any]:
        return [JobFailure("out of memory"), *[work(job) for job in jobs[1:]]]

    monkeypatch.setattr(retraining, "run_jobs", first_fails)
    found = retraining._retrain(config, finalists(load_study(config), 2), 2, 1, False)
    assert [len(each.scores) for each in found] == [1, 2]


def test_nothing_is_registered_if_every_retraining_fails(config: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "run_jobs", lambda _, jobs, *__: [JobFailure("out of memory")] * len(jobs))
    before = (config.folder / "held_out.jsonl").read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="every retraining failed: out of memory"):
        register_study(config, "other", progress=False)
    assert (config.folder / "held_out.jsonl").read_text(encoding="utf-8") == before


def test_a_study_without_trials_is_refused(config: StudyConfig) -> None:
    other = config.model_copy(update={"name": "never"})
    with pytest.raises(UsageError, match="never"):
        register_study(other, "other", progress=False)


def test_a_bad_name_is_refused_before_anything_is_trained(config: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "run_jobs", lambda *_: pytest.fail("trained"))
    with pytest.raises(UsageError, match="a/b"):
        register_study(config, "a/b", progress=False)


def test_retraining_is_the_same_again(config: StudyConfig, registration: Registration, tmp_path: Path) -> None:
    winner = registration.winner
    settings = {"config": config.model_dump(mode="json"), "candidate": winner.candidate.to_dict(), "name": "small"}
    seed = load_bundle(winner.bundles[0]).contract["seed"]
    [(score, folder)] = retrain_job({**settings, "seeds": [seed], "folders": [str(tmp_path / "again")]})
    assert score == winner.scores[0]
    first, again = load_bundle(winner.bundles[0]).model, load_bundle(Path(folder)).model
    assert all(weight.equal(again.state_dict()[name]) for name, weight in first.state_dict().items())


def test_what_was_trained_anew_is_not_trained_again_and_is_what_a_comparison_takes(
    config: StudyConfig, registration: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "train_seeds", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(retraining, "score_job", lambda *_: pytest.fail("trained again"))
    found = best_finalist(config, open_store(config), top=2, seeds=2, progress=False)
    assert [each.scores for each in found.candidates] == [each.scores for each in registration.candidates]
    winner = registration.winner
    subject = chosen(config, found)
    assert subject.preferred == winner.candidate.architecture
    assert subject.training.lr == config.training.lr
    assert subject.how.startswith(f"trial {winner.trial}, the best of 2 trained anew with 2 seeds")
    loser = next(each for each in found.candidates if each.trial != winner.trial)
    assert chosen(config, Finalists(found.candidates, loser)).preferred == loser.candidate.architecture


def test_other_settings_are_trained_again(config: StudyConfig, registration: Registration) -> None:
    other = config.model_copy(update={"training": config.training.model_copy(update={"lr": 3e-3})})
    found = best_finalist(other, open_store(other), top=1, seeds=1, progress=False)
    assert found.winner.scores[0] != registration.candidates[0].scores[0]
    assert str(found) == f"trial {found.winner.trial}"


def test_a_study_and_its_registered_model_can_be_read(config: StudyConfig, registration: Registration) -> None:
    study = load_study(config)
    rows = leaderboard(study, top=2)
    scores = sorted((trial.values[0] for trial in study.get_trials(deepcopy=False)), reverse=True)
    assert [row["score"] for row in rows] == scores[:2]
    assert all(study.get_trials(deepcopy=False)[row["trial"]].values[0] == row["score"] for row in rows)
    assert all(row["parameters"] > 0 and row["architecture"].split()[0] in ("early", "late") for row in rows)
    drawn = progress_picture(study)
    assert drawn is not None
    assert drawn.startswith(b"\x89PNG")
    version, *_ = versions(connected(config), "outcome")
    assert (version["version"], version["aliases"]) == (registration.version, ["candidate", "champion"])
    assert float(version["tags"]["test.auroc"]) == pytest.approx(registration.held_out["auroc"].value, abs=1e-5)
    with pytest.raises(UsageError, match=r"unknown registered model 'outcom'.*; did you mean 'outcome'"):
        versions(connected(config), "outcom")
