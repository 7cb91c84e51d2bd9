"""Configurations: strict keys and types, paths in messages, numbers as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.config import ExperimentConfig, StudyConfig, config_names, load_config
from fusion import UsageError

STUDY = """
name: small
data: {folder: somewhere}
space: {encoders: {codes: [bag]}}
search: {trials: 3}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", config_names())
def test_every_built_in_configuration_loads(name: str) -> None:
    assert isinstance(load_config(name), ExperimentConfig | StudyConfig)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("2E4", 2e4), ("1.5e-2", 1.5e-2), ("-3e1", -30.0), (".5e1", 5.0), ("7e+2", 700.0)],
)
def test_exponents_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    config = load_config(write(tmp_path, STUDY + f"training: {{lr: {abs(value)}}}\nseed: 1\n"), [f"space.dim={text}"])
    assert isinstance(config, StudyConfig)
    assert config.space.dim == value


def test_override_replaces_a_nested_value(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, STUDY), ["training.lr=1e-2", "search.trials=7", "name=other"])
    assert isinstance(config, StudyConfig)
    assert (config.training.lr, config.search.trials, config.name) == (1e-2, 7, "other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STUDY + "training: {learning_rate: 1}", "unknown key 'training.learning_rate'"),
        (STUDY + "training: {batchsize: 1}", "did you mean 'training.batch_size'"),
        (STUDY + "training: {epochs: many}", "training.epochs: Input should be a valid integer"),
        (STUDY.replace("trials: 3", "trials: 3, flops: 5e9"), "one of 'trials', 'epochs', 'seconds' and 'flops'"),
        (STUDY.replace("name: small", "name: a/b"), "name: String should match pattern"),
        (STUDY.replace("data: {folder: somewhere}", ""), "missing key 'data'"),
        ("[1, 2]", "expected a mapping at the top; got list"),
        ("a: [1", "not readable as YAML"),
    ],
)
def test_mistakes_are_one_line_with_the_path(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load_config(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_and_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no such file: nowhere/study\.yaml"):
        load_config("nowhere/study.yaml")
    with pytest.raises(UsageError, match="unknown configuration 'dem'; did you mean 'demo'"):
        load_config("dem")


def test_bad_override(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"an override is written key.path=value; got 'seed'"):
        load_config(write(tmp_path, STUDY), ["seed"])
    with pytest.raises(UsageError, match="'name' holds a value, not a mapping"):
        load_config(write(tmp_path, STUDY), ["name.x=1"])
