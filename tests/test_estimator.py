"""The estimator is one of scikit-learn's, reads what patients have, and keeps itself without pickled modules."""

from __future__ import annotations

import doctest
import io
import pickle
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import experiments.estimator.classifier
import experiments.fitting
import experiments.sources.frames.columns
import experiments.sources.frames.huggingface
import experiments.sources.frames.pyhealth
from experiments.bundle import load_bundle
from experiments.estimator import FusionClassifier, FusionRegressor
from experiments.fitting import tuning_split
from experiments.sources.frames import from_pyhealth
from fusion import UsageError

QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 32, "dim": 16, "lr": 3e-2}
LAST_BITS = "float32 sums of matrix products differ in the last bits with the size of a batch; the check wants 1e-7"


@parametrize_with_checks(
    [FusionClassifier(**QUICK), FusionRegressor(**QUICK)],
    expected_failed_checks=lambda _: {"check_methods_subset_invariance": LAST_BITS},
)
def test_scikit_learn_takes_it_for_its_own(estimator: Any, check: Any) -> None:
    before = estimator.get_params()
    check(estimator)  # raises what scikit-learn finds wrong
    assert estimator.get_params() == before


def patients(rows: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Patients of whom a code, a word or a number, each missing in a third, says how they will be."""
    dice = np.random.default_rng(seed)
    ill = dice.random(rows) < 0.5
    there = dice.random((3, rows)) < 2 / 3
    codes = [["BAD" if bad else "GOOD", "ANY"] if has else None for bad, has in zip(ill, there[0], strict=True)]
    notes = [
        "short of breath" if bad else "feels fine" if has else None for bad, has in zip(ill, there[1], strict=True)
    ]
    frame = pd.DataFrame({"codes": codes, "notes": notes, "lactate": np.where(there[2], 1.0 + 3 * ill, np.nan)})
    return frame, np.where(ill, "ill", "well")


@pytest.fixture(scope="module")
def fitted() -> FusionClassifier:
    return FusionClassifier(**QUICK).fit(*patients(160))


def test_it_finds_what_was_planted_in_three_modalities(fitted: FusionClassifier) -> None:
    frame, y = patients(200, seed=1)
    found = fitted.predict_proba(frame)
    assert fitted.classes_.tolist() == ["ill", "well"]
    assert found.shape == (200, 2)
    assert roc_auc_score(y == "well", found[:, 1]) > 0.95
    assert list(fitted.predictor_.architecture.encoders) == ["codes", "notes"]
    assert fitted.feature_names_in_.tolist() == ["codes", "notes", "lactate"]


def test_a_patient_with_nothing_gets_a_prediction(fitted: FusionClassifier) -> None:
    nothing = pd.DataFrame({"codes": [None], "notes": [None], "lactate": [None]})
    assert np.isfinite(fitted.predict_proba(nothing)).all()


def test_a_patient_alone_is_predicted_as_among_others(fitted: FusionClassifier) -> None:
    frame, _ = patients(9, seed=3)
    alone = np.concatenate([fitted.predict_proba(frame[i : i + 1]) for i in range(9)])
    assert np.allclose(alone, fitted.predict_proba(frame), atol=1e-5)


def test_samples_of_pyhealth_are_fitted_as_they_come() -> None:
    samples = [{"patient_id": i // 2, "drugs": ["C07" if i % 2 else "C09"], "label": i % 2} for i in range(40)]
    frame, y, whose = from_pyhealth(samples, codes=["drugs"])
    model = FusionClassifier(**QUICK).fit(frame, y, groups=whose)
    assert model.feature_names_in_.tolist() == ["codes"]
    with pytest.raises(ValueError, match=r"[Ff]eature names"):
        model.predict(frame.rename({"codes": "drugs"}))


@pytest.mark.parametrize("way", ["pickle", "bundle"])
def test_it_comes_back_as_it_was(fitted: FusionClassifier, way: str, tmp_path: Path) -> None:
    if way == "pickle":
        named: set[str] = set()

        class Watch(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                named.add(module.partition(".")[0])
                return super().find_class(module, name)

        again = Watch(io.BytesIO(pickle.dumps(fitted))).load()
        assert named == {"experiments", "numpy"}
    else:
        again = FusionClassifier.load(fitted.save(tmp_path / "model"))
        assert load_bundle(tmp_path / "model").task.kind == "binary"
        with pytest.raises(UsageError, match=r"no bundle that FusionRegressor\.save wrote"):
            FusionRegressor.load(tmp_path / "model")
    frame, _ = patients(20, seed=2)
    assert np.array_equal(again.predict_proba(frame), fitted.predict_proba(frame))
    assert again.predict(frame).tolist() == fitted.predict(frame).tolist()
    assert again.get_params() == fitted.get_params()
    assert again.feature_names_in_.tolist() == fitted.feature_names_in_.tolist()


def test_a_search_of_scikit_learn_tries_its_settings() -> None:
    frame, y = patients(60)
    grid = {"fusion": ["early", "late"], "dim": np.array([8])}
    search = GridSearchCV(FusionClassifier(**QUICK, encoders={"codes": "bag"}), grid, cv=2, scoring="roc_auc").fit(
        frame, y
    )
    assert search.best_params_["fusion"] in ("early", "late")


def test_graphs_images_and_regression(tmp_path: Path) -> None:
    paths = [tmp_path / f"{shade}.png" for shade in (0, 255)]
    for path, shade in zip(paths, (0, 255), strict=True):
        Pillow.new("L", (16, 16), shade).save(path)
    frame = pd.DataFrame({"icd": ["ICD10CM//I50.1", "ICD10CM//I10"] * 15, "xray": [*paths, None] * 10})
    encoders = {"graph": "ancestors", "images": "conv"}
    columns = {"codes": "icd", "images": "xray"}
    preprocess = {"images": {"size": 16}}
    model = FusionRegressor(**QUICK | {"epochs": 2}, encoders=encoders, columns=columns, preprocess=preprocess)
    assert np.isfinite(model.fit(frame, np.arange(30.0)).predict(frame)).all()
    (tmp_path / "0.png").write_bytes(b"none")
    for act in (lambda: model.predict(frame), lambda: clone(model).fit(frame, np.arange(30.0))):
        with pytest.raises(UsageError, match=r"^row 0: unreadable image") as error:
            act()
        assert "0.png" not in str(error.value)


def test_random_numbers_of_the_caller_go_on_as_if_nothing_had_been() -> None:
    def numbers() -> tuple[float, ...]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def begin() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    begin()
    wanted = numbers()
    begin()
    FusionRegressor(**QUICK | {"epochs": 1}).fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])
    assert numbers() == wanted
    assert not torch.are_deterministic_algorithms_enabled()


def test_rows_of_a_patient_are_on_one_side() -> None:
    whose = np.repeat(np.arange(10), 3)
    split = tuning_split(np.repeat([0, 1], 15), 0.3, 0, by_class=True, groups=whose).reshape(10, 3)
    assert (split == split[:, :1]).all()
    assert (split == "tuning").sum() == 12  # 0.3 of five patients are two, of either class


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoders": {"codes": "bga"}}, "did you mean 'bag'"),
        ({"encoders": {"note": "bag"}}, "did you mean 'notes'"),
        ({"encoders": {"images": "conv"}}, "encoders.images reads images, but no column has them"),
        ({"fusion": "erly"}, "did you mean 'early'"),
        ({"epochs": 0}, "training.*epochs"),
        ({"tuning": 1.5}, r"tuning \(1.5\) must be between 0 and 1"),
        ({"columns": {"codes": "cods"}}, "did you mean 'codes'"),
        ({"training": {"focal": 1}}, "focal"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        FusionClassifier(**QUICK | options).fit(*patients(20))
    assert "\n" not in str(error.value)


def test_it_must_be_fitted_first() -> None:
    with pytest.raises(NotFittedError):
        FusionClassifier().predict_proba(patients(2)[0])


FRAMES = experiments.sources.frames
MODULES = [experiments.estimator.classifier, experiments.fitting, FRAMES.columns, FRAMES.pyhealth, FRAMES.huggingface]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["y"].tolist() == [1, 0]
    assert names["back"][0]["codes"] == [["ICD10CM//I10"], ["ICD10CM//I50.23", "ATC//C07"]]
