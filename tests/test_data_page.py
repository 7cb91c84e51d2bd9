"""The pages about data do what they say: commands are understood, descriptions are some, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from experiments.cli import _parser
from experiments.config import load_config
from experiments.sources.tabular import load_mapping

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "data.md").read_text(encoding="utf-8")
OPEN = (DOCS / "open-data.md").read_text(encoding="utf-8")
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


def test_every_command_about_the_open_sets_is_understood() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", OPEN, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ehrfusion")]
    assert len(commands) > 30
    for command in commands:
        chosen, rest = _parser().parse_known_args(command)
        assert hasattr(chosen, "run"), command
        assert all("=" in each for each in rest), command


@pytest.mark.parametrize("path", sorted((DOCS / "open-data").glob("*.yaml")), ids=lambda path: path.stem)
def test_descriptions_and_studies_of_the_open_sets_are_some(path: Path) -> None:
    assert f"open-data/{path.name}" in OPEN
    load_mapping(path) if "source:" in path.read_text(encoding="utf-8") else load_config(path)
