"""Predictions from every set of modalities, and the parts of a report that are made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_comparison import here, tiny_config

from experiments import comparing, sections
from experiments.coalitions import coalition_predictions, mean_weights, who_has
from experiments.comparing import compare_config
from experiments.config import ExperimentConfig
from experiments.evaluate import predict_rows
from experiments.feeding import build_model, preparations
from experiments.section import Picture, Section, Table
from experiments.sections import Findings
from experiments.train import train
from experiments.workspace import open_store
from fusion import Architecture

ENCODERS = {"codes": "bag", "notes": "bag", "graph": "ancestors"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    found = tiny_config(tmp_path_factory.mktemp("coalitions"), ENCODERS, "early", folds=2, fusions=["early"])
    assert isinstance(found, ExperimentConfig)
    return found


def test_sets_hide_what_is_not_in_them_and_nothing_else(config: ExperimentConfig) -> None:
    store = open_store(config)
    architecture = Architecture.from_dict(config.model.model_dump())
    fit = train(architecture, store, config.training, 0, preprocess=config.data.preprocess)
    rows = store.cohort.rows("held_out")
    sets = coalition_predictions(fit.model, fit.preparations, store, rows)
    assert sets.shape == (8, len(rows), 1)
    assert np.array_equal(sets[-1], predict_rows(fit.model, fit.preparations, store, rows))
    assert np.allclose(sets[0], sets[0][0])  # nothing is known of anybody
    notes = list(fit.preparations).index("notes")
    has = store.source(fit.preparations["notes"]).row_index[rows].numpy() >= 0
    assert 0 < has.sum() < len(has)
    moved = np.abs(sets[-1] - sets[-1 - 2**notes])[:, 0] > 1e-7
    assert np.array_equal(moved, has)
    assert np.array_equal(who_has(fit.preparations, store, rows)[notes], has)
    assert mean_weights(fit.model, fit.preparations, store, rows) is None  # early fusion has one view of everything


@pytest.mark.parametrize("fusion", ["late", "gated"])
def test_mean_weights_are_those_of_patients_who_have_the_modality(config: ExperimentConfig, fusion: str) -> None:
    store, rows = open_store(config), open_store(config).cohort.rows("held_out")
    plans = preparations(Architecture.from_dict(config.model.model_dump()), config.data.preprocess)
    ready = {name: store.preprocessor(plan) for name, plan in plans.items()}
    architecture = Architecture.from_dict({**config.model.model_dump(), "fusion": fusion})
    model = build_model(architecture, ready, 1).eval()
    found = mean_weights(model, plans, store, rows)
    inputs = {name: store.source(plan).collate(torch.from_numpy(rows)) for name, plan in plans.items()}
    with torch.no_grad():
        weights = model.fuse(inputs).weights.numpy()
    has = who_has(plans, store, rows)
    assert not has.all()
    assert found == pytest.approx([weights[has[j], j].mean() for j in range(3)], abs=1e-5)


def test_a_part_of_the_report_reads_what_runs_left(config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def part(findings: Findings) -> Section:
        held_out = findings.held_out
        for name in ("coalitions", "tuning_predictions"):
            seen[name] = {each: held_out.arrays(each, name) for each in held_out.files}
        seen["tuning"] = held_out.tuning
        table = Table(["set", "value"], [["all", 0.25], ["none", float("nan")]], note="a note <of mine>")
        return Section("Whose is it?", ["It is <nobody's>."], {"sets": table}, {"sets": Picture(b"png", "two bars")})

    monkeypatch.setattr(comparing, "run_jobs", here)
    monkeypatch.setattr(sections, "SECTIONS", (part, lambda _: None))
    _, folder = compare_config(config, progress=False)
    assert seen["coalitions"]["codes"] is None
    assert seen["coalitions"]["boosted_counts"] is None
    for name, classes in seen["tuning_predictions"].items():
        assert classes is not None, name
        assert [[len(each) for each in folds] for folds in classes] == [[len(t) for t in seen["tuning"]]] * 2
    of_early = seen["coalitions"]["early"]
    assert [[each.shape for each in folds] for folds in of_early] == [[(8, 60, 1)] * 2] * 2
    assert seen["coalitions"]["without notes"][0][0].shape == (4, 60, 1)
    assert (folder / "sets.csv").read_text() == "set,value\nall,0.25\nnone,\n"
    assert Path(folder / "sets.png").read_bytes() == b"png"
    html = (folder / "comparison.html").read_text()
    for words in (
        "Whose is it?",
        "It is &lt;nobody&#x27;s&gt;.",
        "a note &lt;of mine&gt;",
        ">not defined<",
        "two bars",
    ):
        assert words in html
