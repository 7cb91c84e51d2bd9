"""The page about data does what it says: commands are understood, the description is one, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experiments.cli import _parser
from experiments.sources.tabular import load_mapping

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str) -> None:
    assert hasattr(_parser().parse_args(shlex.split(line)[1:]), "run")


def test_the_description_is_one(tmp_path: Path) -> None:
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "ward.yaml").write_text(text, encoding="utf-8")
    mapping = load_mapping(tmp_path / "ward.yaml")
    assert (len(mapping.events), len(mapping.notes), len(mapping.images), len(mapping.labels)) == (5, 1, 1, 1)


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", PAGE))))
def test_links_lead_to_a_section(anchor: str) -> None:
    heads = [
        re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in re.findall(r"^##? (.+)$", PAGE, re.MULTILINE)
    ]
    assert anchor in heads
