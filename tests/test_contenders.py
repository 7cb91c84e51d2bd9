"""Contenders of a comparison, and whole comparisons run on small patients."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from toy_comparison import BINARY, noisy, patients, planted, tiny_config

from encoders.codes import TEXTS
from experiments import comparing
from experiments import contenders as contending
from experiments.compare_config import CompareConfig
from experiments.comparing import compare_config
from experiments.comparison import Comparison, compare_predictions
from experiments.config import Config, StudyConfig, TrainingConfig, parse_config
from experiments.contenders import BY, Contender, Subject, chosen, contenders, without_control
from experiments.jobs import JobFailure
from experiments.studies import study_spec
from fusion import FUSIONS, Architecture, Spec, UsageError
from search.study import create_or_resume


def subject(architecture: Architecture, *fusions: str, preferred: Architecture | None = None) -> Subject:
    return Subject(architecture, TrainingConfig(), fusions or tuple(FUSIONS), preferred)


def test_contenders_are_the_fusions_each_modality_alone_and_a_control() -> None:
    encoders = {"codes": Spec("bag"), "notes": Spec("bag")}
    whole = subject(Architecture(encoders, Spec("late", {"dropout": 0.3}), 32))
    found = contenders(whole)
    assert [name for name, each in found.items() if each.kind == "fusion"] == list(FUSIONS)
    assert [name for name, each in found.items() if each.kind == "modality"] == ["codes", "notes"]
    assert found["boosted_counts"] == Contender("control", control="boosted_counts")
    fused = {name: each.architecture for name, each in found.items() if each.architecture is not None}
    assert fused["late"].fusion.params == {"dropout": 0.3}  # what was found keeps its settings
    assert fused["early"].fusion.params == {}
    assert all(fused[name].encoders == encoders for name in FUSIONS)
    assert fused["notes"].encoders == {"notes": Spec("bag")}
    assert found.keys() - contenders(whole, controls=False).keys() == {"boosted_counts"}


def test_only_the_named_fusions_take_part_and_always_the_one_that_was_found() -> None:
    encoders = {"notes": Spec("bag"), "images": Spec("conv")}
    found = contenders(subject(Architecture(encoders, Spec("late")), "early", "sum"))
    assert list(found) == ["early", "sum", "late", "notes", "images"]  # no control: nobody reads coded events


def test_what_a_search_preferred_is_a_contender_of_its_own_where_it_fuses_only_some() -> None:
    encoders = {"codes": Spec("bag"), "notes": Spec("bag"), "images": Spec("conv")}
    whole = Architecture(encoders, Spec("late"), 32)
    some = Architecture({"codes": Spec("bag"), "images": Spec("conv")}, Spec("early", {"layers": 1}), 32)
    found = contenders(subject(whole, preferred=some))
    assert found["early of codes + images"] == Contender("fusion", some)
    alone = Architecture({"codes": Spec("bag")}, Spec("late"))
    assert contenders(subject(whole, preferred=whole)) == contenders(subject(whole, preferred=alone))


def test_with_three_modalities_each_is_left_out_in_turn() -> None:
    encoders = {"codes": Spec("bag"), "notes": Spec("bag"), "images": Spec("conv")}
    whole = Architecture(encoders, Spec("gated", {"dropout": 0.3}), 32)
    found = contenders(subject(whole))
    without = {name: each.architecture for name, each in found.items() if each.kind == "without"}
    assert list(without) == ["without codes", "without notes", "without images"]
    for name, architecture in without.items():
        assert architecture is not None
        assert (architecture.fusion, architecture.dim) == (whole.fusion, 32)
        assert architecture.encoders == {m: encoder for m, encoder in encoders.items() if m not in name}
    some = without["without notes"]
    preferred = contenders(subject(whole, preferred=some))
    assert "without notes" not in preferred, "it is there as what the search preferred"
    assert preferred["gated of codes + images"].architecture == some
    two = Architecture({name: encoders[name] for name in ("codes", "notes")}, Spec("late"))
    assert not any(each.kind == "without" for each in contenders(subject(two)).values())


def finished(study: optuna.Study, score: float, encoders: dict[str, Any]) -> None:
    """Add a finished trial of late fusion."""
    architecture = {"encoders": encoders, "fusion": {"name": "late", "dropout": score}, "dim": 8}
    attributes = {"architecture": architecture, "training": {"lr": score}}
    study.add_trial(optuna.create_trial(value=score, user_attrs=attributes))


def test_a_modality_the_best_trial_left_out_has_the_encoder_of_the_best_that_used_it(
    tiny: Config, tmp_path: Path
) -> None:
    data = tiny.model_dump(exclude={"model"}) | {"name": "half", "runs": tmp_path, "search": {"trials": 9}}
    data["training"] = {"metric": "auroc"}
    config = parse_config(data | {"space": {"encoders": {"codes": "bag", "notes": ["bag", "none"], "images": "conv"}}})
    assert isinstance(config, StudyConfig)
    study = create_or_resume(study_spec(config), {})
    with pytest.raises(UsageError, match="study 'half' has no finished trial to compare"):
        chosen(config)
    finished(study, 0.25, {"codes": {"name": "bag"}, "notes": {"name": "transformer"}})
    finished(study, 0.125, {"codes": {"name": "bag", "slots": 4}, "notes": {"name": "bag"}})
    finished(study, 0.5, {"codes": {"name": "bag", "slots": 2}})
    found = chosen(config)
    assert found.architecture.encoders == {"codes": Spec("bag", {"slots": 2}), "notes": Spec("transformer")}
    assert found.architecture.fusion == Spec("late", {"dropout": 0.5})
    assert found.preferred == Architecture({"codes": Spec("bag", {"slots": 2})}, Spec("late", {"dropout": 0.5}), 8)
    assert found.training.lr == 0.5
    assert found.remarks == (
        "the best trial left notes out: compared with the encoder of trial 0",
        "no finished trial used images: it is not compared",
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """An experiment on a few synthetic patients with the fastest encoders."""
    encoders, fusions = {"codes": "bag", "notes": "bag"}, ["early", "late", "gated"]
    return tiny_config(tmp_path_factory.mktemp("compare"), encoders, "late", fusions=fusions)


def here(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
    """Run jobs in this process instead of a pool."""
    return [function(each) for each in settings]


def test_a_comparison_runs_writes_everything_and_does_nothing_twice(
    tiny: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "run_jobs", here)
    found, folder = compare_config(tiny, progress=False)
    assert {row.strategy for row in found.rows} == {"early", "late", "gated", "codes", "notes", "boosted_counts"}
    assert all(len(row.seeds) == 2 for row in found.rows)
    assert found.about["seeds"] == 2
    for ending in ("csv", "json", "png", "html"):
        assert (folder / f"comparison.{ending}").stat().st_size > 0
    assert not list(folder.rglob("*.tmp*"))
    jobs = sorted((folder / "predictions").glob("*.npz"))
    assert len(jobs) == 2 * 6

    def train_again(*_: Any, **__: Any) -> None:
        raise AssertionError("a run that was done before was trained again")

    monkeypatch.setattr(comparing, "train_seeds", train_again)
    monkeypatch.setattr(comparing, "CONTROLS", {"boosted_counts": train_again})
    again, _ = compare_config(tiny, progress=False)
    assert _undated(again) == _undated(found)


def _undated(found: Comparison) -> dict[str, Any]:
    """Return all that a comparison came to, but not the minute at which it did."""
    data: dict[str, Any] = json.loads(found.to_json())
    del data["about"]["again"]["date"]
    return data


def test_a_failed_run_is_reported_and_the_others_are_compared(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_fails(function: Callable[[Any], Any], settings: Sequence[Any], *_: Any) -> list[Any]:
        return [JobFailure("its process died"), *here(function, settings[1:])]

    monkeypatch.setattr(comparing, "run_jobs", one_fails)
    found, folder = compare_config(tiny, progress=False)
    first = "early"
    assert f"{first}: 1 of 2 runs failed (its process died)" in found.about["warnings"]
    assert {len(row.seeds) for row in found.rows if row.strategy == first} == {1}
    assert "1 of 2 runs failed" in (folder / "comparison.html").read_text(encoding="utf-8")


def test_a_comparison_of_which_nothing_ran_is_an_error(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_runs(_: Any, settings: Sequence[Any], *__: Any) -> list[Any]:
        return [JobFailure("out of memory")] * len(settings)

    monkeypatch.setattr(comparing, "run_jobs", none_runs)
    with pytest.raises(UsageError, match=r"every run of the comparison failed: .*out of memory"):
        compare_config(tiny, progress=False)


def test_few_events_are_said_to_make_wide_intervals(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "run_jobs", here)
    found, _ = compare_config(tiny, progress=False)
    assert any("the intervals are wide" in warning for warning in found.about["warnings"])


def test_what_can_be_compared_by(tiny: Config) -> None:
    with pytest.raises(UsageError, match="can compare by fusion or training; got 'colour'"):
        compare_config(tiny, by="colour")


def test_training_strategies_are_compared_with_plain_training(tiny: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "run_jobs", here)
    monkeypatch.setattr(contending, "TRAININGS", {"plain": {}, "focal": {"focal_gamma": 2.0}})
    found, folder = compare_config(tiny, by="training", progress=False)
    assert folder.name == "compare-training"
    assert {row.strategy for row in found.rows} == {"plain", "focal"}
    assert {row.kind for row in found.rows} == {"training"}
    assert found.verdict().startswith("best training: ")


def test_every_training_strategy_is_plain_but_for_its_own_settings() -> None:
    searched = Subject(Architecture({"codes": Spec("bag")}, Spec("late")), TrainingConfig(average="ema", lr=0.5), ())
    found = contenders(searched, by="training")
    settings = {
        name: TrainingConfig.model_validate({**searched.training.model_dump(), **each.training})
        for name, each in found.items()
    }
    assert settings["plain"] == TrainingConfig(lr=0.5)
    assert settings["focal"] == TrainingConfig(lr=0.5, focal_gamma=2.0)
    assert len({each.model_dump_json() for each in settings.values()}) == len(found) == len(contending.TRAININGS)


def test_a_fusion_that_does_not_exist_names_the_nearest(tiny: Config) -> None:
    wrong = tiny.model_copy(update={"compare": tiny.compare.model_copy(update={"fusions": ["gatd"]})})
    with pytest.raises(UsageError, match=r"compare\.fusions: unknown component 'gatd'; did you mean 'gated'\?"):
        chosen(wrong)


def test_the_verdict_names_the_control_and_the_difference_to_it() -> None:
    target, hidden = patients()
    predictions = {"late": noisy(hidden, 2.0), "codes": noisy(hidden, 4.0), "trees": noisy(hidden, 0.1)}
    kinds = {"late": "fusion", "codes": "modality", "trees": "control"}
    found = compare_predictions(BINARY, target, np.arange(300), predictions, kinds, resamples=300)
    gap = next(each for each in found.differences if {each.first, each.second} == {"late", "trees"})
    assert (gap.first, gap.low > 0) == ("trees", True)
    said = found.verdict().partition(". Control trees, ")[2]
    assert f"difference {-gap.value:+.3f}" in said
    assert "no difference shown" not in said


def test_one_modality_has_nothing_to_fuse() -> None:
    found = contenders(subject(Architecture({"codes": Spec("bag")}, Spec("late"), 8)))
    assert list(found) == ["codes", "boosted_counts"]


@pytest.mark.parametrize("name", TEXTS)
def test_records_read_as_text_always_have_the_control_beside_them(name: str) -> None:
    assert CompareConfig().controls, "the control is there unless somebody asks for it to be left out"
    text = subject(Architecture({"codes": Spec(name), "notes": Spec("bag")}, Spec("late"), 8))
    for by in BY:
        assert contenders(text, by=by)["boosted_counts"] == Contender("control", control="boosted_counts")
        assert "boosted_counts" not in contenders(text, by=by, controls=False)
    assert without_control(text, controls=True) == []
    (said,) = without_control(text, controls=False)
    assert said.startswith("codes are read as text and compare.controls is false")
    numbers = subject(Architecture({"codes": Spec("bag"), "notes": Spec("bag")}, Spec("late"), 8))
    assert "boosted_counts" not in contenders(numbers, by="training")
    assert without_control(numbers, controls=False) == []


@pytest.mark.parametrize("kind", ["modality", "training"])
def test_the_verdict_on_one_modality_or_on_training_names_the_control_too(kind: str) -> None:
    target, hidden = patients()
    predictions = {"plain": noisy(hidden, 4.0), "trees": noisy(hidden, 0.1)}
    if kind == "training":
        predictions["focal"] = noisy(hidden, 5.0)
    kinds = dict.fromkeys(predictions, kind) | {"trees": "control"}
    found = compare_predictions(BINARY, target, np.arange(300), predictions, kinds, resamples=300)
    assert ". Control trees, " in found.verdict()
    assert found.verdict().startswith("one modality, plain" if kind == "modality" else "best training: plain")
    assert "difference -" in found.verdict().partition("Control")[2], "text that loses is said to lose"


def test_the_terminal_shows_failure_reasons_with_brackets_as_they_are() -> None:
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(planted(100, about={"warnings": ["late: [Errno 12] no memory [/x]"]}).render())
    text = console.export_text()
    assert "late: [Errno 12] no memory [/x]" in text
    assert "codes only" in text
