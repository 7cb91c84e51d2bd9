"""The audit stands before compare and register, and what is let through without it is written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from toy_audit import LABELS, SHARD, add_events, add_twins, change, copied, positives, read

from experiments import comparing
from experiments.audit import gate as gate_module
from experiments.audit.finding import Audit
from experiments.audit.gate import NOT_RUN, audit_path, gate, gate_folds, written_audit
from experiments.card import model_card
from experiments.cli import main
from experiments.comparing import compare_config
from experiments.config import Config, parse_config
from experiments.data.folds import fold_store
from experiments.workspace import open_store
from fusion import UsageError


def config(folder: Path, runs: Path) -> Config:
    return parse_config(
        {
            "name": "gated",
            "runs": str(runs),
            "data": {"folder": str(folder)},
            "training": {"epochs": 1},
            "compare": {"seeds": 1, "folds": 1, "resamples": 100, "fusions": ["late"], "controls": False},
            "tracking": {"enabled": False},
            "model": {"encoders": {"codes": "bag", "notes": "bag"}, "fusion": "late", "dim": 8},
        }
    )


@pytest.fixture
def leaky(small_folder: Path, tmp_path: Path) -> Path:
    """A folder in which a code says the label."""
    folder = copied(small_folder, tmp_path / "data")
    time = (pl.col("prediction_time") - pl.duration(hours=1)).alias("time")
    add_events(folder, positives(folder).select("subject_id", time, code=pl.lit("LEAK")))
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run jobs in this process instead of a pool."""
    monkeypatch.setattr(comparing, "run_jobs", lambda work, jobs, *_: [work(job) for job in jobs])


def test_compare_refuses_what_leaks_unless_told_to_and_then_says_so(leaky: Path, tmp_path: Path) -> None:
    mine = config(leaky, tmp_path / "runs")
    with pytest.raises(
        UsageError, match="the leakage audit failed: single features: codes: 1 codes tell the"
    ) as failed:
        compare_config(mine, progress=False)
    assert "\n" not in str(failed.value)
    assert "LEAK (having it or not tells the label with an AUROC of 1.000)" in str(failed.value)
    assert not Audit.from_dict(json.loads(audit_path(mine).read_text(encoding="utf-8"))).ok
    found, folder = compare_config(mine, progress=False, audit=False)
    assert found.about["audit"] == NOT_RUN
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    assert "the leakage audit was left out (--no-audit)" in page
    assert NOT_RUN in page


def test_an_audit_that_passed_counts_until_something_changes(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = config(small_folder, tmp_path)
    found, folder = compare_config(mine, progress=False)
    assert found.about["audit"].startswith("passed: ")
    assert "passed: " in (folder / "comparison.html").read_text(encoding="utf-8")
    assert not found.about["warnings"] or "--no-audit" not in " ".join(found.about["warnings"])
    looked: list[Any] = []

    def noted(*given: Any, **options: Any) -> Any:
        looked.append(given)
        return Audit("gated", ())

    monkeypatch.setattr(gate_module, "audit_store", noted)
    store = open_store(mine)
    gate(mine, store)
    assert looked == []
    written_audit(mine, progress=False)  # the verb has its own name for the work
    gate(mine, open_store(mine))
    assert looked == [], "what the verb found counts too"
    prepared = next(iter(tmp_path.glob("cache/codes-*"))) / "preprocessor.json"
    prepared.write_text(prepared.read_text(encoding="utf-8") + " ", encoding="utf-8")
    gate(mine, store)
    assert len(looked) == 1


def test_every_fold_is_audited(small_folder: Path, tmp_path: Path) -> None:
    folder = copied(small_folder, tmp_path / "data")
    add_twins(folder, 12, lambda table: table, split="train")  # no leak where both are trained on
    settings = config(folder, tmp_path / "runs").model_dump(mode="json")
    settings["compare"] |= {"folds": 3, "controls": True}
    mine = parse_config(settings)
    assert gate(mine, open_store(mine)).startswith("passed: ")
    with pytest.raises(UsageError, match=r"duplicate records: .* see .*audit-fold-1\.json"):
        compare_config(mine, progress=False)


def test_what_passes_in_every_fold_is_said_once(small_folder: Path, tmp_path: Path) -> None:
    settings = config(small_folder, tmp_path / "runs").model_dump(mode="json")
    settings["compare"] |= {"folds": 2}
    mine = parse_config(settings)
    stores = [fold_store(open_store(mine), 2, fold, mine.data.splits) for fold in range(2)]
    said = gate_folds(mine, stores)
    assert said.startswith(("passed: ", "fold 1 passed: "))
    assert [audit_path(mine, fold).is_file() for fold in range(2)] == [True, True]


def test_a_card_says_whether_there_was_an_audit() -> None:
    description = {
        "contract": {"name": "x", "audit": NOT_RUN},
        "task": {"kind": "binary", "names": ["x"]},
        "architecture": {"encoders": {"codes": {"name": "bag"}}, "fusion": {"name": "late"}, "dim": 8},
        "metrics": {},
    }
    assert f"| Leakage audit | {NOT_RUN} |" in model_card(description)


def test_the_verb_shows_writes_and_fails(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = config(leaky, tmp_path / "runs")
    Path("gated.yaml").write_text(yaml.safe_dump(mine.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    assert main(["audit", "gated.yaml"]) == 1
    shown = capsys.readouterr().out
    assert "single features" in shown
    assert "failed: " in shown
    assert json.loads(Path("runs/gated/audit.json").read_text(encoding="utf-8"))["summary"].startswith("failed: ")
    assert main(["compare", "gated.yaml"]) == 2
    assert "the leakage audit failed" in capsys.readouterr().err
    change(leaky, SHARD, lambda table: table.filter(pl.col("code") != "LEAK"))
    assert main(["audit", "gated.yaml"]) == 0
    assert "passed: " in capsys.readouterr().out
    change(leaky, LABELS, lambda table: pl.concat([table, table.head(1)]))
    assert main(["audit", "gated.yaml"]) == 1
    assert "no cohort can be read before that is right" in " ".join(capsys.readouterr().out.split())
    assert read(leaky, LABELS).height == 161
