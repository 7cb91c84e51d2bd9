"""The README does what it says: its commands exist, its Python runs, its files are there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import _parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


def test_the_first_block_holds_the_two_commands() -> None:
    kind, text = BLOCKS[0]
    lines = [line for line in text.splitlines() if line.strip()]
    assert kind == "bash"
    assert len(lines) == 2
    assert "ehrfusion demo" in lines[0]
    assert "pytest" in lines[1]


def commands() -> list[str]:
    lines = [line for text in blocks("sh") for line in text.replace("\\\n", " ").splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("ehrfusion ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_is_understood(line: str) -> None:
    chosen, rest = _parser().parse_known_args(shlex.split(line)[1:])
    assert hasattr(chosen, "run")
    assert all("=" in each for each in rest)


def test_python_blocks_run_as_one_session(tmp_path: Path) -> None:
    text = "\n".join(blocks("python"))
    assert text.strip(), "the README shows the Python API"
    guarded = "if __name__ == '__main__':\n" + "\n".join(f"    {line}" for line in text.splitlines())
    script = tmp_path / "readme.py"
    script.write_text(guarded, encoding="utf-8")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()
