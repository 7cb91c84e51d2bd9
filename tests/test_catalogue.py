"""The catalogue: every entry has its paper and year, is found by its names, and the documentation is up to date."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from encoders import ENCODERS
from experiments.catalogue import Entry, catalogue_markdown, entries, render_catalogue
from experiments.config import TrainingConfig
from fusion import FUSIONS, UsageError

ENTRIES = list(entries())
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[f"{each.kind}.{each.name}" for each in ENTRIES])


def shown(name: str | None) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_catalogue(name))
    return console.export_text()


@each_entry
def test_paper_and_year(entry: Entry) -> None:
    paper, year = entry.paper
    assert len(paper) > 10
    assert 1950 < int(year) < 2030


@each_entry
def test_it_is_found_by_its_full_name(entry: Entry) -> None:
    text = shown(f"{entry.kind}.{entry.name}")
    assert entry.summary in text
    assert "Reference:" in text


def test_a_fusion_says_what_it_does_about_a_missing_modality() -> None:
    assert all(each.section("Missing") for each in ENTRIES if each.kind == "fusion")
    assert "The gate of an absent modality is shut" in shown("gated")


def test_a_name_of_several_components_shows_them_all_and_a_kind_its_table() -> None:
    assert all(f"{kind}.bag" in shown("bag") for kind in ("codes", "notes"))
    assert all(name in shown("fusion") for name in FUSIONS)
    assert "codes.bag" not in shown("fusion")


def test_the_whole_table_has_everything() -> None:
    text = shown(None)
    for name in [name for catalogue in (*ENCODERS.values(), FUSIONS) for name in catalogue]:
        assert name in text


@pytest.mark.parametrize("name", ["ogm_ge", "info_reg", "swa", "focal_gamma", "modality_dropout"])
def test_a_training_strategy_is_found_by_its_setting(name: str) -> None:
    assert "Reference:" in shown(name)


def test_settings_of_training_strategies_exist() -> None:
    for each in ENTRIES:
        if each.kind == "training":
            settings = each.name.partition(":")[0].split(", ")
            assert set(settings) <= set(TrainingConfig.model_fields), each.name


def test_an_unknown_name_has_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown component 'ogmge'; did you mean 'ogm_ge'\?"):
        render_catalogue("ogmge")


def test_the_documentation_is_what_the_command_writes() -> None:
    path = Path(__file__).resolve().parents[1] / "docs" / "components.md"
    assert path.read_text(encoding="utf-8") == catalogue_markdown(), (
        "run: ehrfusion components --markdown > docs/components.md"
    )
