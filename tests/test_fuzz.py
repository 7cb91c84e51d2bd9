"""Spoiled input ends well or in one line with exit code 2; `benchmarks/fuzz.py` runs as many cases as one likes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from toy_fuzz import EXPERIMENT, SECTIONS, SPOILS, base, outcome, place

import experiments.data.tables as tables
from experiments.config import parse_config

CASES = int(os.environ.get("EHRFUSION_FUZZ_CASES", "6"))  # of each kind


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", SPOILS)
@pytest.mark.filterwarnings("ignore")
def test_spoiled_input_is_taken_or_refused_in_one_line(whole: Path, kind: str) -> None:
    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink] if CASES > 100 else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def case(data: Any) -> None:
        with place(whole):
            assert outcome(SPOILS[kind](data.draw)) in ("done", "errors listed", "refused in one line")

    case()


@pytest.mark.parametrize(
    "command",
    [
        ["data", "check", "data"],
        ["predict", "bundle", "data", "-o", "out.parquet"],
        ["train", "small.yaml"],
        ["pretrain", "small.yaml"],
    ],
)
def test_what_is_not_spoiled_is_taken(whole: Path, command: list[str]) -> None:
    """Else the test above would be passed by refusing everything."""
    with place(whole):
        model = {"encoders": {"codes": {"name": "artefact", "path": "artefact"}}, "fusion": "late", "dim": 8}
        Path("small.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **SECTIONS, "model": model}), encoding="utf-8")
        assert outcome(command) == "done"


def test_the_configuration_that_is_spoiled_is_whole() -> None:
    assert parse_config(EXPERIMENT).name == "small"


def test_a_crash_would_be_seen(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_UNREADABLE", (ZeroDivisionError,))
    with place(whole):
        path = Path("data") / "data" / "00000.parquet"
        path.unlink()
        path.write_bytes(b"PAR1PAR1")
        with pytest.raises(Exception, match=r"(?i)parquet"):
            outcome(["predict", "bundle", "data", "-o", "out.parquet"])
